"""seqjax: attention or recurrence, at this task, budget and length?"""

__version__ = "0.1.0"
