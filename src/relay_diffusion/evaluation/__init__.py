"""What a cascade is worth: the judge that reads pictures, the suites of prompts, the scores."""
