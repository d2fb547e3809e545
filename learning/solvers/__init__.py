"""What an iteration works on and what follows from it: quasi-Newton, proximal, block and validated loops."""
