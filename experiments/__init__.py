"""What is done with the lesson: runs, recipes, studies, tables, figures, the command line."""
