"""`bp.doctor`: what is wrong with a training, and the line of code that mends it."""
