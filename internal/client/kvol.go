package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Kvol is a user of the kvol API with its token.
type Kvol struct {
	http  *http.Client
	base  string
	user  string
	token atomic.Pointer[string]

	// Tell is as in Session.
	Tell func(text string)

	again func(ctx context.Context) error // gets a new token
}

// KvolLogin gets a token of the kvol API; base is a zone's URL without a path.
func KvolLogin(ctx context.Context, base, user, password string) (*Kvol, error) {
	k := &Kvol{http: &http.Client{Timeout: time.Minute}, base: strings.TrimSuffix(base, "/"), user: user}
	k.again = func(ctx context.Context) error {
		var answer struct {
			Token string `json:"token"`
		}
		_, _, err := exchange{http: k.http, method: http.MethodGet, url: k.base + "/api/token",
			header: basic(user, password), out: &answer}.do(ctx)
		if err != nil {
			return fmt.Errorf("get a token of the kvol API: %w", err)
		}
		k.token.Store(&answer.Token)
		return nil
	}
	if err := k.again(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

func basic(user, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}}
}

// Backup is a row of list.
type Backup struct {
	ClusterIP string `json:"cluster_ip"`
	Name      string `json:"name"`
	Seq       int64  `json:"seq"`
	SVMIP     string `json:"svm_ip"`
	SVMName   string `json:"svm_name"`
	ZoneID    string `json:"zone_id"`
}

// BackupDetail is a row of show.
type BackupDetail struct {
	DstPath      string `json:"dst-path"`
	DstSVMName   string `json:"dst-svm-name"`
	DstZone      string `json:"dst-zone"`
	SrcPath      string `json:"src-path"`
	SrcSVMName   string `json:"src-svm-name"`
	SrcVolTypeID string `json:"src-vol-type-id"`
	SrcZone      string `json:"src-zone"`
	Status       string `json:"status"`
}

// KvolJob is a row of createlist and recoverylist; OrgSnapshotID is set in the
// one, OrgVolumeID in the other. Times are in the server's configured zone.
type KvolJob struct {
	CreateEnd     *string `json:"create_end"`
	CreateStart   *string `json:"create_start"`
	DstSVMName    string  `json:"dst_svm_name"`
	DstZoneID     string  `json:"dst_zone_id"`
	NewVolumeID   *string `json:"new_volume_id"`
	OrgSnapshotID string  `json:"org_snapshot_id,omitempty"`
	OrgVolumeID   string  `json:"org_volume_id,omitempty"`
	OrgZoneID     string  `json:"org_zone_id"`
	ResultMsg     string  `json:"result_msg"`
	SrcSVMName    string  `json:"src_svm_name"`
	SrcZoneID     string  `json:"src_zone_id"`
	Status        string  `json:"status"`
}

// Elsewhere says what to make where; Volume is for Recovery, Snapshot for
// Create.
type Elsewhere struct {
	SrcZone, SrcType, Volume, Snapshot string
	DstZone, DstProject, DstType       string
	Bootable                           bool
}

// ErrNoData is the answer 204: there is no such thing.
var ErrNoData = fmt.Errorf("no such data (204)")

func (k *Kvol) get(ctx context.Context, path string, q url.Values, out any) error {
	_, status, err := exchange{http: k.http, method: http.MethodGet, url: k.base + path + "?" + q.Encode(),
		header: basic(k.user, *k.token.Load()), out: out}.do(ctx)
	if err == nil && status == http.StatusNoContent {
		return ErrNoData
	}
	return err
}

// List lists the backup zones of a volume type.
func (k *Kvol) List(ctx context.Context, zone, typeID string) ([]Backup, error) {
	var out struct {
		Backup []Backup `json:"backup"`
	}
	err := k.get(ctx, "/api/kvol/list", url.Values{"zone": {zone}, "volume-type-id": {typeID}}, &out)
	return out.Backup, err
}

// Show shows the backup zones of a volume type in detail; dstZone may be "".
func (k *Kvol) Show(ctx context.Context, zone, typeID, dstZone string) ([]BackupDetail, error) {
	var out struct {
		Detail []BackupDetail `json:"backup-detail"`
	}
	q := url.Values{"src-zone": {zone}, "src-volume-type-id": {typeID}}
	if dstZone != "" {
		q.Set("dst-zone", dstZone)
	}
	err := k.get(ctx, "/api/kvol/show", q, &out)
	return out.Detail, err
}

// Create starts making a volume in another zone from a replicated snapshot.
func (k *Kvol) Create(ctx context.Context, e Elsewhere) (rowkey int64, err error) {
	q := e.query()
	q.Set("src-snapshot-id", e.Snapshot)
	return k.start(ctx, "/api/kvol/create", q)
}

// Recovery starts recovering a volume of a lost zone elsewhere.
func (k *Kvol) Recovery(ctx context.Context, e Elsewhere) (rowkey int64, err error) {
	q := e.query()
	q.Set("src-volume-id", e.Volume)
	return k.start(ctx, "/api/kvol/recovery", q)
}

func (e Elsewhere) query() url.Values {
	bootable := "no"
	if e.Bootable {
		bootable = "yes"
	}
	return url.Values{"src-zone": {e.SrcZone}, "src-volume-type-id": {e.SrcType}, "bootable": {bootable},
		"dst-zone": {e.DstZone}, "dst-tenant-id": {e.DstProject}, "dst-volume-type-id": {e.DstType}}
}

func (k *Kvol) start(ctx context.Context, path string, q url.Values) (int64, error) {
	var out struct {
		Rowkey int64 `json:"rowkey"`
	}
	err := k.get(ctx, path, q, &out)
	return out.Rowkey, err
}

// Jobs lists createlist ("create") or recoverylist ("recovery"): one row for a
// rowkey above 0, else the newest limit rows (0: the server's default).
func (k *Kvol) Jobs(ctx context.Context, kind string, rowkey int64, limit int) ([]KvolJob, error) {
	var out struct {
		List []KvolJob `json:"clist"`
	}
	q := url.Values{}
	if rowkey > 0 {
		q.Set("rowkey", strconv.FormatInt(rowkey, 10))
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	err := k.get(ctx, "/api/kvol/"+kind+"list", q, &out)
	return out.List, err
}

// unheardOf is how long Wait goes on where nothing is known of its job.
const unheardOf = 30 * time.Second

// Wait follows a job that was begun to its end; seen, if not nil, is told each
// status. A job that ends in FAIL is an error with its message. Any zone can be
// asked, and one where the job does not run gives the zone where it does only a
// moment to answer; else it says what it was told last, and 204 before it was told
// of the job. So that is no error until it was the only answer for half a minute. No
// answer at all is borne for some minutes.
func (k *Kvol) Wait(ctx context.Context, kind string, rowkey int64, seen func(KvolJob)) (KvolJob, error) {
	var last KvolJob
	unheard := time.NewTimer(unheardOf)
	defer unheard.Stop()
	w := &following{what: fmt.Sprintf("%s %d", kind, rowkey), again: k.again, tell: k.Tell, limit: patience, pause: pause}
	defer w.stop()
	err := Poll(ctx, pollEvery, func() (bool, error) {
		rows, err := k.Jobs(ctx, kind, rowkey, 0)
		if errors.Is(err, ErrNoData) {
			w.stop()
			select {
			case <-unheard.C:
				return false, err
			default:
				return false, nil
			}
		}
		if failed := w.bear(ctx, err); failed != nil || err != nil || len(rows) == 0 {
			return false, failed
		}
		unheard.Reset(unheardOf)
		last = rows[0]
		if seen != nil {
			seen(last)
		}
		if last.Status == "FAIL" {
			return false, fmt.Errorf("%s %d failed: %s", kind, rowkey, last.ResultMsg)
		}
		return last.Status == "SUCCESS", nil
	})
	return last, err
}
