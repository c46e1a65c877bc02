package hostlookup

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// feedFunc is a function that is a Feed.
type feedFunc func(context.Context) iter.Seq2[Change, error]

func (f feedFunc) Changes(ctx context.Context) iter.Seq2[Change, error] { return f(ctx) }

// channelFeed returns a Feed that behaves as if each call of Changes opened a connection. Each call
// yields the zero Change first, and then the changes from the channel. It ends with an error from
// the channel.
func channelFeed(ch <-chan any, connects *[]time.Time) Feed {
	return feedFunc(func(ctx context.Context) iter.Seq2[Change, error] {
		return func(yield func(Change, error) bool) {
			*connects = append(*connects, time.Now())
			if !yield(Change{}, nil) {
				return
			}
			for {
				select {
				case <-ctx.Done():
					return
				case x := <-ch:
					switch x := x.(type) {
					case error:
						yield(Change{}, x)
						return
					case Change:
						if !yield(x, nil) {
							return
						}
					}
				}
			}
		}
	})
}

func TestFollow(t *testing.T) {
	bubble(t, &Cache{TTL: Forever, NegativeTTL: Forever}, func(t *testing.T, c *Cache, src *fake) {
		wantEndpoint(t, c, "a.com", "10.0.0.1", Miss)
		ch := make(chan any)
		var connects []time.Time
		var broken []error
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- c.Follow(ctx, channelFeed(ch, &connects), func(err error) { broken = append(broken, err) })
		}()
		synctest.Wait()
		// The feed does not know the changes that happened before it connected, so the cache asks
		// about all hosts again.
		src.answer(at("10.0.0.2"))
		wantEndpoint(t, c, "a.com", "10.0.0.2", Miss)
		wantEndpoint(t, c, "a.com", "10.0.0.2", Hit)

		src.answer(at("10.0.0.3"))
		ch <- Change{Host: "a.com"}
		synctest.Wait()
		wantEndpoint(t, c, "a.com", "10.0.0.3", Miss)

		ch <- Change{"a.com", Endpoint{Host: "a.com", Addr: "10.0.0.4"}}
		synctest.Wait()
		wantEndpoint(t, c, "a.com", "10.0.0.4", Hit)

		wantEndpoint(t, c, "x.example.com", "10.0.0.3", Miss)
		ch <- Change{Host: "*.example.com"}
		synctest.Wait()
		wantEndpoint(t, c, "x.example.com", "10.0.0.3", Miss)

		// If the new endpoint of a host is malformed, the cache drops the old one.
		src.answer(failing(ErrNotFound))
		ch <- Change{"a.com", Endpoint{Addr: "10.0.0.4:none"}}
		synctest.Wait()
		require.Len(t, broken, 1)
		wantError(t, c, "a.com", ErrNotFound, Miss)

		// While the feed is down the cache changes nothing. After the reconnect it asks about all
		// hosts.
		src.answer(failing(errDown))
		require.Len(t, connects, 1)
		for i := range 8 {
			ch <- errDown
			synctest.Wait()
			require.Len(t, broken, 2+i)
			require.ErrorIs(t, broken[1+i], errDown)
			time.Sleep(31 * time.Second)
		}
		synctest.Wait()
		require.Len(t, connects, 9)
		wantEndpoint(t, c, "x.example.com", "10.0.0.3", Stale)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// If each call of Changes ends at once, Follow waits longer after each call.
func TestFollowBacksOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, c *Cache, _ *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		tries := 0
		err := c.Follow(ctx, feedFunc(func(context.Context) iter.Seq2[Change, error] {
			return func(yield func(Change, error) bool) {
				tries++
				yield(Change{}, errors.New("refused"))
			}
		}), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.InDelta(t, 30, tries, 8)
	})
}
