"""What another configuration would have made of the recorded requests: the log's evidence, decided anew."""
