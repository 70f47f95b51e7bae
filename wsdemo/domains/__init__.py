"""What makes a kind of instance: faces, shapes; everything else takes either."""
