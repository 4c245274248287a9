"""Pure functions that compare values with true values, usable with numpy alone (METEOR and one tokenizer need more).

An answer that could not be read is None, counts as wrong, and is counted. Each module has one function that looks at
all answers once (``answer_scores``, ``caption_scores``, ``grounding_scores``, ``match_detections``); what it returns
gives the figures of all of them or of any part, by weights (``statistics``). All figures are fractions here;
``earthgpt.tasks`` gives those of captions times 100.
"""
