"""KVCachePool: cache servers that engines share."""
