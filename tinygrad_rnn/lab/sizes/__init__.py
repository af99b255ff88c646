"""How large a model is: parameters, multiply-adds, bytes."""
