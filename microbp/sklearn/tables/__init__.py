"""`bp.fit_table` as estimators for scikit-learn."""
