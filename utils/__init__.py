"""Age, gender and ethnicity prediction from faces: the code behind the notebooks."""
