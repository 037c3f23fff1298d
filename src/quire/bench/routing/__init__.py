"""How fast routing is with very many modules, and how often it is right about a handbook.

speed      `quire bench route`: each stage timed over a synthetic table
made_up    that table, and questions to it
accuracy   `quire bench route --handbook DIR`: questions of ours to a real handbook, half examples, half test
report     tables of both
handbook   its pages cut into modules, and the split
"""
