package pool

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Constants of a Forecast. They were chosen with demos/prediction.
const (
	recentSpan = 10 * time.Second // over which the recent rate is averaged
	pastSpan   = 2 * time.Minute  // over which the rate before is, for the trend
	burstSpan  = 4 * time.Minute  // in which the memory of a burst falls to a third
	trendAhead = 3                // how many recentSpans a rise is taken to go on
	// daySlot is the grain of the daily rhythm; each day counts half of what
	// the days before it do together.
	daySlot   = 15 * time.Minute
	daySlots  = int(24 * time.Hour / daySlot)
	dayWeight = 1.0 / 3
	// gapGrain is the grain of the histogram of idle times, as long as gaps
	// goes; older gaps fade as newer ones come.
	gapGrain  = 30 * time.Second
	gapSlots  = 480 // four hours
	gapFading = 0.97
	gapsKnown = 4 // gaps that must have been seen before they count
	// onsetSpan is how long after a gap arrivals count as coming at once: those
	// after it are served by the refill.
	onsetSpan   = 250 * time.Millisecond
	onsetWeight = 0.3
	// rareRate is the rate, per second, below which single arrivals and their
	// rhythm matter more than the rate.
	rareRate = 0.05
)

// Forecast says how many sandboxes of a class should be warm, from when they
// were asked for. It is a few averages, each of which can be explained:
//
//   - the recent rate, and how it rises;
//   - the largest burst of late, which may come again;
//   - the rate at this time on the days before;
//   - for what is asked for rarely, how long it takes until it is asked for
//     again, and by how many at once.
//
// The zero value is ready. Times must not go backwards; it is not for
// concurrent use.
type Forecast struct {
	second time.Time // the one that count is of
	count  float64   // arrivals in it

	recent, past float64 // arrivals per second
	burst        float64 // in one second

	last     time.Time // arrival
	woken    time.Time // the first arrival after the last gap
	atOnce   float64   // arrivals since, within onsetSpan
	onset    float64   // moving average of that
	gaps     [gapSlots]float64
	gapsSeen float64

	day     [daySlots]float64 // arrivals per second at a time of day
	slot    time.Time         // the slot that slotted counts
	slotted float64           // arrivals in it
}

// Arrive takes note of one that is asked for.
func (f *Forecast) Arrive(now time.Time) {
	f.advance(now)
	f.count++
	f.slotted++
	if now.Sub(f.woken) < onsetSpan {
		f.atOnce++
	}
	if gap := now.Sub(f.last); !f.last.IsZero() && gap >= gapGrain {
		f.onset += (f.atOnce - f.onset) * onsetWeight
		f.woken, f.atOnce = now, 1
		for i := range f.gaps {
			f.gaps[i] *= gapFading
		}
		f.gaps[min(int(gap/gapGrain), gapSlots-1)]++
		f.gapsSeen = f.gapsSeen*gapFading + 1
	}
	f.last = now
}

// advance takes the seconds and slots that have ended into the averages.
func (f *Forecast) advance(now time.Time) {
	if f.second.IsZero() {
		f.second, f.slot = now.Truncate(time.Second), now.Truncate(daySlot)
	}
	for slot := now.Truncate(daySlot); f.slot.Before(slot); f.slotted = 0 {
		i := slotOf(f.slot)
		f.day[i] += (f.slotted/daySlot.Seconds() - f.day[i]) * dayWeight
		f.slot = f.slot.Add(daySlot)
		if slot.Sub(f.slot) > 24*time.Hour {
			f.slot = slot // silent for days: one of them says as much
		}
	}
	passed := int(now.Sub(f.second) / time.Second)
	if passed <= 0 {
		return
	}
	f.burst = max(f.burst*decay(1, burstSpan), f.count)
	f.recent += (f.count - f.recent) * (1 - decay(1, recentSpan))
	f.past += (f.count - f.past) * (1 - decay(1, pastSpan))
	f.count = 0
	if rest := passed - 1; rest > 0 { // without an arrival
		f.burst *= decay(rest, burstSpan)
		f.recent *= decay(rest, recentSpan)
		f.past *= decay(rest, pastSpan)
	}
	f.second = f.second.Add(time.Duration(passed) * time.Second)
}

func decay(seconds int, span time.Duration) float64 {
	return math.Exp(-float64(seconds) / span.Seconds())
}

func slotOf(t time.Time) int {
	t = t.UTC()
	return (t.Hour()*60 + t.Minute()) / int(daySlot/time.Minute)
}

// Want returns how many should be warm now, when making one takes ahead, and
// why in words.
func (f *Forecast) Want(now time.Time, ahead time.Duration) (count int, why string) {
	f.advance(now)
	rise := max(0, f.recent-f.past)
	rate := f.recent + rise*min(1, trendAhead*recentSpan.Seconds()/pastSpan.Seconds())
	var because []string
	say := func(format string, args ...any) { because = append(because, fmt.Sprintf(format, args...)) }
	if f.recent >= rareRate {
		say("%s a second of late", short(f.recent))
		if rise > f.recent/4 {
			say("rising from %s", short(f.past))
		}
	}
	if daily := f.day[slotOf(now.Add(ahead+time.Minute))]; daily > rate {
		rate = daily
		if daily >= rareRate {
			say("%s a second at this time of day", short(daily))
		}
	}
	horizon := ahead + time.Second
	want := 0.0
	if rate >= rareRate {
		want = math.Ceil(rate*horizon.Seconds() + math.Sqrt(rate*horizon.Seconds()))
	}
	if f.burst > want && f.burst >= 0.5 {
		want = math.Ceil(f.burst)
		say("a burst of %s before", short(f.burst))
	}
	if want < 1 {
		if again, text := f.soonAgain(now, ahead); again {
			want = max(1, math.Ceil(f.onset))
			say("%s, %.0f at once", text, want)
		}
	}
	if want == 0 {
		return 0, "nothing is asked for"
	}
	return int(want), fmt.Sprintf("%s; %s to make one", strings.Join(because, ", "), ahead.Round(time.Millisecond))
}

// soonAgain says whether what is asked for rarely is due: its idle time so far
// is within those after which it was asked for again.
func (f *Forecast) soonAgain(now time.Time, ahead time.Duration) (due bool, text string) {
	if f.last.IsZero() || f.gapsSeen < gapsKnown {
		return false, ""
	}
	first, last := f.gapAt(0.05), f.gapAt(0.95)+2*gapGrain
	idle := now.Sub(f.last)
	if idle+ahead+gapGrain < first || idle > last {
		return false, ""
	}
	return true, fmt.Sprintf("asked for again after %v to %v", first, last)
}

// gapAt is the idle time that a share of the gaps did not exceed.
func (f *Forecast) gapAt(share float64) time.Duration {
	total, sum := 0.0, 0.0
	for _, n := range f.gaps {
		total += n
	}
	for i, n := range f.gaps {
		if sum += n; sum >= share*total {
			return time.Duration(i) * gapGrain
		}
	}
	return gapSlots * gapGrain
}

func short(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
