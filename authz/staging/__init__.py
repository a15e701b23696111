"""Staged changes and emergencies: what operators lay over the policy in force, step by step."""
