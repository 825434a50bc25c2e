"""The problems of second_order.py, and what microbp is compared with."""
