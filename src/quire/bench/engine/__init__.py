"""`quire bench engine`: answering many requests on one document, against transformers and vLLM.

measure           the whole benchmark
options           what the user may choose
arms              the processes that are compared, alive or ended
opening           what each arm is given to begin with
quire_arm         the engine of this package, in a process of its own
transformers_arm  generate() on a deep copy of the document's KV, one request after another
vllm_arm          vLLM with prefix caching, a script for the interpreter of its own environment
environment       that environment: made once, repaired, used again
requests          what is asked, each question once
rounds            who answers what, in which order, and what is measured around it
timing            from the times of tokens to figures
levels            the runs of one number of requests: medians and floors
summary           ratios, targets, and whether the arms did the same work
report            tables and one line of JSON
plot              tokens per second and first tokens over concurrency
"""
