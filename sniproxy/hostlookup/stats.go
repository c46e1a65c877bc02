package hostlookup

// Stats are the figures of a Cache since its first use.
type Stats struct {
	// Lookups by the Level of their answer. Misses includes the lookups that ended with an error
	// of the source or of their context.
	Hits, Misses, Negatives, Stales, Failures uint64

	Calls    uint64 // calls of the source that began
	NotFound uint64 // calls that ended with ErrNotFound
	Errors   uint64 // calls that ended with another error, panicked, or could not begin within Timeout
	Dropped  uint64 // calls whose answer was not stored, because the host changed meanwhile

	Evicted         uint64 // known hosts that made room for others
	EvictedNegative uint64 // hosts not found or failed that made room for others

	// Figures of this moment.
	Hosts    int // known hosts
	Negative int // hosts that are stored as not found or failed
	InFlight int // source calls that run or wait for MaxCalls
}

// tally counts the events that happen under core.mu.
type tally struct {
	calls, notFound, errors, dropped, evicted, evictedNegative uint64
}

func (k *core) stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Stats{
		Hits:      k.lookups.Sum(uint8(Hit)),
		Misses:    k.lookups.Sum(uint8(Miss)),
		Negatives: k.lookups.Sum(uint8(Negative)),
		Stales:    k.lookups.Sum(uint8(Stale)),
		Failures:  k.lookups.Sum(uint8(Failed)),

		Calls:           k.tally.calls,
		NotFound:        k.tally.notFound,
		Errors:          k.tally.errors,
		Dropped:         k.tally.dropped,
		Evicted:         k.tally.evicted,
		EvictedNegative: k.tally.evictedNegative,

		Hosts:    k.known.Len(),
		Negative: k.negative.Len(),
		InFlight: len(k.running),
	}
}

// countLookups returns the number of lookups of all levels.
func (k *core) countLookups() (n uint64) {
	for level := range Failed + 1 {
		n += k.lookups.Sum(uint8(level))
	}
	return n
}
