"""What is wrong with an installation of a party, found before its partners find out."""
