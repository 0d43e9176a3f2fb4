"""One page that shows what a fine-tuned model does with a pair of sentences."""
