package chromiumtest

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Open loads a page and waits until it is complete.
func (b *Browser) Open(t testing.TB, url string) {
	t.Helper()
	b.Evaluate(t, "window.left = true", nil)
	b.Navigate(t, url)
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		complete := false
		b.Evaluate(t, "window.left === undefined && document.readyState === 'complete'", &complete)
		if complete {
			return
		}
		require.Less(t, time.Now(), deadline, url)
	}
}

// Evaluate stores the value of a JavaScript expression in the argument "result", which may be nil.
func (b *Browser) Evaluate(t testing.TB, expression string, result any) {
	t.Helper()
	answer := struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}{}
	answer.Result.Value = result
	b.Call(t, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer)
	require.Nil(t, answer.ExceptionDetails, expression)
}

// Resize makes the window this wide, in CSS pixels. A window of less than 700 pixels is the screen of
// a phone.
func (b *Browser) Resize(t testing.TB, width int) {
	t.Helper()
	b.Call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 700}, nil)
}

// Dark makes the browser prefer dark pages, or light ones if dark is false.
func (b *Browser) Dark(t testing.TB, dark bool) {
	t.Helper()
	value := map[bool]string{false: "light", true: "dark"}[dark]
	b.Call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": value}}}, nil)
}

// Look opens a status page, and checks these properties in the browser:
//
//   - In a window of 390 or 1280 pixels, the page is not wider than the window.
//   - On a light and on a dark background, every text has a contrast of at least 4.5:1 (WCAG 2.2,
//     criterion 1.4.3).
//   - The tab key reaches all links, fields, buttons and scrollable regions, in the order of the
//     page, and the browser marks the element that has the focus.
//   - Every table has headers, and every field has a label.
//   - The page loads nothing, and runs no script.
//
// Look writes two pictures of the page to the directory of -artifacts: NAME-390.png on a light
// background, and NAME-1280.png on a dark one.
func (b *Browser) Look(t testing.TB, name, url string) {
	t.Helper()
	b.Resize(t, 390)
	b.Open(t, url)
	b.checkKeyboard(t)
	for _, width := range []int{390, 1280} {
		b.Resize(t, width)
		for _, dark := range []bool{false, true} {
			b.Dark(t, dark)
			var got struct {
				Window, Page int
				Faint        []string
				Bare, Loaded int
			}
			b.Evaluate(t, inspect, &got)
			what := fmt.Sprintf("%s, %d pixels, dark %v", name, width, dark)
			require.Equal(t, width, got.Window, what)
			require.LessOrEqual(t, got.Page, width, "%s: the page is too wide", what)
			require.Empty(t, got.Faint, "%s: texts with too little contrast", what)
			require.Zero(t, got.Bare, "%s: tables without headers, fields without labels, scripts", what)
			require.Zero(t, got.Loaded, "%s: the page loads something", what)
			if dark == (width == 1280) {
				b.picture(t, fmt.Sprintf("%s-%d.png", name, width))
			}
		}
	}
	b.Dark(t, false)
}

// inspect is the JavaScript expression that Look evaluates in a page. It computes the contrast as
// WCAG 2.2 defines it.
const inspect = `(() => {
	const parse = c => c.match(/[\d.]+/g).map(Number);
	const light = c => { const [r, g, b] = parse(c).map(v => (v /= 255, v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)); return .2126 * r + .7152 * g + .0722 * b };
	const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, p = parse(c); if (p.length < 4 || p[3] > 0) return c } return 'rgb(255,255,255)' };
	const faint = [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).filter(e => {
		const a = light(getComputedStyle(e).color), b = light(back(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5 });
	return { Window: innerWidth, Page: document.documentElement.scrollWidth, Faint: faint.slice(0, 5).map(e => e.outerHTML.slice(0, 200)),
		Bare: [...document.querySelectorAll('table')].filter(x => !x.querySelector('thead th[scope=col]')).length
			+ [...document.querySelectorAll('input:not([type=hidden])')].filter(x => !x.labels.length).length + document.scripts.length,
		Loaded: performance.getEntriesByType('resource').length };
})()`

// maxStops is the largest number of elements that checkKeyboard visits.
const maxStops = 30

func (b *Browser) checkKeyboard(t testing.TB) {
	t.Helper()
	count := 0
	b.Evaluate(t, `(() => {
		window.stops = [...document.querySelectorAll('a[href],button,input:not([type=hidden]),[tabindex="0"],summary')].filter(e => e.offsetParent !== null);
		document.activeElement.blur();
		return stops.length;
	})()`, &count)
	for i := range min(count, maxStops) {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			b.Call(t, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
		}
		var at struct {
			Index  int
			Marked bool
			Is     string
		}
		b.Evaluate(t, `(() => { const e = document.activeElement, s = getComputedStyle(e);
			return { Index: stops.indexOf(e), Marked: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, Is: e.outerHTML.slice(0, 200) } })()`, &at)
		require.Equal(t, i, at.Index, "the tab key leads to %s", at.Is)
		require.True(t, at.Marked, "the browser does not mark the focus of %s", at.Is)
	}
}

// picture writes a picture of the whole page to the directory of -artifacts.
func (b *Browser) picture(t testing.TB, name string) {
	t.Helper()
	dir, ok := t.(interface{ ArtifactDir() string })
	if !ok {
		return
	}
	var answer struct{ Data string }
	b.Call(t, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &answer)
	data, err := base64.StdEncoding.DecodeString(answer.Data)
	require.NoError(t, err)
	require.NotEmpty(t, data)
	require.NoError(t, os.WriteFile(filepath.Join(dir.ArtifactDir(), name), data, 0o600))
}
