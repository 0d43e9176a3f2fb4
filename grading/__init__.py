"""The checks that a solution has to pass, the student edition, and the grader."""
