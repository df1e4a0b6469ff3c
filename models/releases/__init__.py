"""What was released, the policy that says what to do about it, and the decision."""
