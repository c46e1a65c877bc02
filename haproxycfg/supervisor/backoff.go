package supervisor

import "time"

// backoff is the number of failures in a row of one HAProxy.
type backoff struct {
	minDelay, maxDelay, stable time.Duration
	failures                   int
}

// failed records that HAProxy has ended after it ran for the duration ran, and returns the time until
// the next start. random is a number from 0 to 1, which spreads the delay by 20% in both directions.
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
