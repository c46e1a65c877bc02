package supervisor

import "time"

// backoff computes the pauses between the starts of a HAProxy that ends again and again. failures
// is the number of failures in a row.
type backoff struct {
	minDelay, maxDelay, stable time.Duration
	failures                   int
}

// failed records that HAProxy has ended, and returns the time until the next start. The argument
// "ran" is the time for which HAProxy was running. The argument "random", a number from 0 to 1,
// makes the returned time up to 20% shorter or longer.
func (b *backoff) failed(ran time.Duration, random float64) time.Duration {
	if ran >= b.stable {
		b.failures = 0
	}
	delay := b.maxDelay
	if b.failures < 30 { // a larger shift could overflow
		delay = min(b.minDelay<<b.failures, b.maxDelay)
	}
	b.failures++
	return time.Duration(float64(delay) * (0.8 + 0.4*random))
}
