package durability

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// The whole way of snapshots through an S3 service, encrypted: archived,
// evicted, brought back before a restore, and damage that is told and harms
// nothing else.
func TestRemoteTier(t *testing.T) {
	available(t)
	const bucket = "cold"
	objects := s3mem.New()
	check(t, objects.CreateBucket(bucket))
	service := httptest.NewServer(gofakes3.New(objects).Server())
	defer service.Close()
	in := install(t, []string{"native"})
	key := filepath.Join(in.dir, "cold.key")
	check(t, os.WriteFile(key, bytes.Repeat([]byte{7}, 32), 0o600))
	in.env = append(in.env, "FAAS_SNAPSHOTS_COLD=s3://"+bucket+"/some/prefix", "FAAS_SNAPSHOTS_S3_ENDPOINT="+service.URL,
		"FAAS_SNAPSHOTS_S3_ACCESS_KEY=access", "FAAS_SNAPSHOTS_S3_SECRET_KEY=secret", "FAAS_SNAPSHOTS_KEY_FILE="+key)
	in.launch()
	t.Cleanup(in.clear)
	w := newWork(in, rand.New(rand.NewPCG(1, 0)), []string{"native"})
	for range 3 {
		check(t, w.snapshot(faas.RuntimeNative))
	}
	for _, s := range w.acked {
		in.within(time.Minute, "snapshot "+s.id+" is evicted", func() error {
			var shown api.Snapshot
			if err := in.call(http.MethodGet, api.PathSnapshots+"/"+s.id, nil, &shown); err != nil {
				return err
			}
			if shown.Tier != faas.TierCold || shown.StoredBytes == 0 {
				return fmt.Errorf("it is %s, %d bytes stored", shown.Tier, shown.StoredBytes)
			}
			return nil
		})
	}
	w.all()
	list, err := objects.ListBucket(bucket, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	check(t, err)
	pieces := 0
	for _, o := range list.Contents {
		if !strings.HasPrefix(o.Key, "some/prefix/store-") {
			t.Errorf("there is %s", o.Key)
		}
		if strings.Contains(o.Key, "/chunks/") {
			pieces++
		}
	}
	if pieces == 0 {
		t.Fatal("there are no pieces")
	}
	w.damageOne(objects, bucket, list.Contents)
}

// damageOne removes a snapshot's index from the service: that one, and no
// other, can be restored no more, and the error and verify name it.
func (w *work) damageOne(objects *s3mem.Backend, bucket string, list []*gofakes3.Content) {
	in, t := w.in, w.in.t
	victim := w.acked[0]
	in.within(time.Minute, "it is evicted again", func() error {
		var shown api.Snapshot
		err := in.call(http.MethodGet, api.PathSnapshots+"/"+victim.id, nil, &shown)
		if err == nil && shown.Tier != faas.TierCold {
			err = fmt.Errorf("it is %s", shown.Tier)
		}
		return err
	})
	for _, o := range list {
		if strings.HasSuffix(o.Key, "/index/"+victim.id) {
			_, err := objects.DeleteObject(bucket, o.Key)
			check(t, err)
		}
	}
	if err := w.restored(victim); err == nil || !strings.Contains(err.Error(), victim.id) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("restore without its index: %v", err)
	}
	if problems := w.verify(victim.id); len(problems) == 0 || problems[0].SnapshotID != victim.id || problems[0].Tier != "cold" {
		t.Errorf("verify: %+v", problems)
	}
	for _, s := range w.acked[1:] {
		if err := w.restored(s); err != nil {
			t.Errorf("another: %v", err)
		}
	}
}
