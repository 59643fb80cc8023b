"""The day of a pool, in parts: `day` (the story), `load` (requests), `machine` (blows), `watch` (what is recorded),
`dedicated` (the same work on partitions), `view`, `picture` and `verdict` (what is shown)."""
