"""Measurements that explain themselves: what restoring a module saves, on this machine, against plain transformers.

command         `quire bench`
restore         the sections of `quire bench restore`, and running them
workbench       a throw-away project with the document compiled, and the machine's own rates
document        what is read and what is asked
figures         numbers with targets; medians of arms that take turns
reference       transformers' own way, on the same weights
processes       other processes and what they say
"""
