"""The run: what it is, how it proceeds, what it needs. No transport, no store, no environment.

From below: `model` has the words, `state` folds a run's events into where it stands, `context` fits what a model reads
into its window, `tools` and `judgement` are what a run does with an answer, `run` drives one run phase by phase. Above
it `keeping` has the runs of a process, `watching` shows them, `after` hands on what follows from them, `time_travel`
looks back. `ports` is what all of it needs of the world.
"""
