"""The questions that auditors come with, each answered whole: pure reads of log and inventory."""
