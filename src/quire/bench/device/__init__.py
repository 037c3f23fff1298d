"""`quire bench device`: what a GPU does with modules, beside what its memory and its bus allow."""
