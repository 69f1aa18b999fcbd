"""Names of methods and statistics, for code that must not load TensorFlow."""

METHODS = ("gradcam", "gradcam_pp", "scorecam", "smoothgrad")
SLOW = ("scorecam", "smoothgrad")  # many passes a face: measured on fewer faces
CONTROLS = ("random", "center_gaussian")
METHOD_LABELS = {
    "gradcam": "Grad-CAM",
    "gradcam_pp": "Grad-CAM++",
    "scorecam": "Score-CAM",
    "smoothgrad": "SmoothGrad",
    "random": "random map",
    "center_gaussian": "centred Gaussian",
}
FAITHFULNESS = ("deletion_auc", "insertion_auc", "average_drop", "increase_in_confidence")
LOWER_IS_BETTER = ("deletion_auc", "average_drop")
