"""Endless data: partitions of records with offsets, kept by the embedded log or by Kafka.

Imports `spec` and the standard library; `confluent_kafka` only where a `kafka://` URL is opened. Begin with `stream`.
"""
