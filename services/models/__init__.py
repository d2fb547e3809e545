"""What lives on after training: each party's immutable model versions, and what is made of them."""
