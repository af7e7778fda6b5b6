"""`pymc3_tf.sample`: whole models under XLA."""
