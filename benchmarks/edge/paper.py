"""What the paper reports.

Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, Serverless Computing Approach for Deploying Machine Learning
Applications in Edge Layer, section IV.
"""

ACCURACY = {"node-1": 0.9, "node-2": 0.9, "node-3": 0.7, "global": 0.82}
"""After 50 rounds, read from its text: training accuracy of each client (figure 4), and of the global model (5)."""
PLATEAU = 22
"""Round after which accuracy and loss change little (figure 4)."""
COLD_TRAINING = 5.0
"""Seconds that a cold start adds to training (figure 6); WARM_TRAINING: that a warm one adds."""
WARM_TRAINING = 0.05
COLD_SERVING = 5.0
"""Seconds to the answer for fewer than 500 images, cold (figure 7); WARM_SERVING: warm."""
WARM_SERVING = 0.3
MEGABYTES = {"training": 200, "serving": 100}
"""Memory that its functions are given."""
