"""KVCache: AIBrix's kind of cache, with its three backends."""
