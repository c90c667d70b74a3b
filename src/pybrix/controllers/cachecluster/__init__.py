"""What KVCachePool and KVCache have in common: cache servers, a metadata server, and what is published of them."""
