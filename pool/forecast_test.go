package pool

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func TestForecastOfASteadyRate(t *testing.T) {
	f := &Forecast{}
	now := noon
	for range 1200 { // ten a second for two minutes
		f.Arrive(now)
		now = now.Add(100 * time.Millisecond)
	}
	want, why := f.Want(now, 500*time.Millisecond)
	if want < 15 || want > 25 || !strings.Contains(why, "10 a second of late") {
		t.Errorf("%d: %s", want, why)
	}
	if slower, _ := f.Want(now, 5*time.Second); slower < 60 {
		t.Errorf("%d when one takes five seconds to make", slower)
	}
}

func TestForecastRemembersABurst(t *testing.T) {
	f := &Forecast{}
	for range 40 {
		f.Arrive(noon)
	}
	later := noon.Add(time.Minute)
	want, why := f.Want(later, 100*time.Millisecond)
	if want < 20 || want > 40 || !strings.Contains(why, "a burst of") {
		t.Errorf("%d: %s", want, why)
	}
	if want, why := f.Want(noon.Add(time.Hour), 100*time.Millisecond); want != 0 {
		t.Errorf("an hour later %d: %s", want, why)
	}
}

func TestForecastOfTheDay(t *testing.T) {
	f := &Forecast{}
	for day := range 5 {
		morning := noon.Add(-4*time.Hour + time.Duration(day)*24*time.Hour)
		for i := range 3600 { // two a second from eight o'clock for half an hour
			f.Arrive(morning.Add(time.Duration(i) * 500 * time.Millisecond))
		}
	}
	next := noon.Add(5*24*time.Hour - 4*time.Hour)
	if want, why := f.Want(next.Add(-30*time.Second), time.Second); want < 4 || !strings.Contains(why, "at this time of day") {
		t.Errorf("just before eight %d: %s", want, why)
	}
	if want, why := f.Want(next.Add(6*time.Hour), time.Second); want != 0 {
		t.Errorf("in the afternoon %d: %s", want, why)
	}
}

func TestForecastOfATimer(t *testing.T) {
	f := &Forecast{}
	now := noon
	for range 10 {
		f.Arrive(now)
		now = now.Add(20 * time.Minute)
	}
	last := now.Add(-20 * time.Minute)
	if want, why := f.Want(last.Add(12*time.Minute), time.Second); want != 0 {
		t.Errorf("long before it is due %d: %s", want, why)
	}
	if want, why := f.Want(last.Add(20*time.Minute-5*time.Second), time.Second); want != 1 || !strings.Contains(why, "again after") {
		t.Errorf("just before it is due %d: %s", want, why)
	}
	if want, why := f.Want(last.Add(time.Hour), time.Second); want != 0 {
		t.Errorf("when it has not come %d: %s", want, why)
	}
}
