"""`python -m examples.expense`"""

import os

from examples.expense.app import main

main(os.environ.get("ERP_URL", "http://localhost:8003").rstrip("/"))
