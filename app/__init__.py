"""What people touch: the `dyno` command and the Streamlit explorer."""
