"""Quire compiles static knowledge into transformer KV once and answers every question from it."""
