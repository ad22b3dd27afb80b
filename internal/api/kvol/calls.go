package kvol

import (
	"math"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

type tokenBody struct {
	Duration int64   `json:"duration"` // seconds
	Expires  *string `json:"expires"`
	Token    string  `json:"token"`
}

// token answers /api/token, which the document names and does not show.
func (s *Server) token(r *request) (answer, error) {
	if r.user == "" || r.password == "" {
		return answer{}, block.Errorf(block.Unauthorized, "user and password are needed")
	}
	token, expires, err := s.cfg.Tokens.Issue(r.Context(), r.user, r.password, r.RemoteAddr)
	if block.Is(err, block.OverLimit) || block.Is(err, block.NotFound) {
		text, _ := block.UserMessage(err)
		err = block.Wrap(block.Unauthorized, err, "%s", text)
	}
	if err != nil {
		return answer{}, err
	}
	left := max(0, expires.Sub(s.cfg.Now()).Round(time.Second))
	return answer{body: tokenBody{int64(left / time.Second), s.stamp(expires), token}}, nil
}

type listBody struct {
	Backup []listRow `json:"backup"`
}

type listRow struct {
	ClusterIP string     `json:"cluster_ip"`
	Name      string     `json:"name"`
	Seq       int64      `json:"seq"`
	SVMIP     string     `json:"svm_ip"`
	SVMName   string     `json:"svm_name"`
	ZoneID    block.Zone `json:"zone_id"`
}

// list answers /api/kvol/list.
func (s *Server) list(r *request) (answer, error) {
	zone, typeID := r.zone("zone"), block.TypeID(r.id("volume-type-id"))
	pairs, a, err := s.pairs(r, zone, typeID, "")
	if len(pairs) == 0 || err != nil {
		return a, err
	}
	body := listBody{}
	for _, p := range pairs {
		body.Backup = append(body.Backup, listRow{
			ClusterIP: p.Backup.ClusterIP, Name: p.Backup.Path, Seq: p.Seq,
			SVMIP: p.Backup.SVMIP, SVMName: p.Backup.SVMName, ZoneID: p.Destination,
		})
	}
	a.body = body
	return a, nil
}

type showBody struct {
	Detail []showRow `json:"backup-detail"`
}

type showRow struct {
	DstPath    string       `json:"dst-path"`
	DstSVMName string       `json:"dst-svm-name"`
	DstZone    block.Zone   `json:"dst-zone"`
	SrcPath    string       `json:"src-path"`
	SrcSVMName string       `json:"src-svm-name"`
	SrcTypeID  block.TypeID `json:"src-vol-type-id"`
	SrcZone    block.Zone   `json:"src-zone"`
	Status     string       `json:"status"`
}

// show answers /api/kvol/show.
func (s *Server) show(r *request) (answer, error) {
	zone, typeID := r.zone("src-zone"), block.TypeID(r.id("src-volume-type-id"))
	pairs, a, err := s.pairs(r, zone, typeID, r.anyZone("dst-zone"))
	if len(pairs) == 0 || err != nil {
		return a, err
	}
	body := showBody{}
	for _, p := range pairs {
		body.Detail = append(body.Detail, showRow{
			DstPath: p.Backup.ExportPath(), DstSVMName: p.Backup.SVMName, DstZone: p.Destination,
			SrcPath: p.Source.ExportPath(), SrcSVMName: p.Source.SVMName, SrcTypeID: p.SourceType,
			SrcZone: p.SourceZone, Status: p.Status,
		})
	}
	a.body = body
	return a, nil
}

func (s *Server) pairs(r *request, zone block.Zone, typeID block.TypeID, dst block.Zone) (
	[]control.Pair, answer, error,
) {
	if r.err != nil {
		return nil, answer{}, r.err
	}
	pairs, fresh, err := s.cfg.Service.Backups(r.Context(), zone, typeID, dst)
	return pairs, answer{fresh: fresh}, err
}

type startedBody struct {
	Message string `json:"message"`
	Rowkey  int64  `json:"rowkey"`
}

// create answers /api/kvol/create.
func (s *Server) create(r *request) (answer, error) {
	return s.start(r, block.DRCreate, "snapshot volume creating ...")
}

// recovery answers /api/kvol/recovery.
func (s *Server) recovery(r *request) (answer, error) {
	return s.start(r, block.DRRecovery, "recovery volume creating ...")
}

func (s *Server) start(r *request, kind block.DRKind, message string) (answer, error) {
	req := block.DRRequest{Kind: kind, SourceZone: r.zone("src-zone")}
	req.SourceType = block.TypeID(r.id("src-volume-type-id"))
	if kind == block.DRCreate {
		req.SourceSnapshot = block.SnapshotID(r.id("src-snapshot-id"))
	} else {
		req.SourceVolume = block.VolumeID(r.id("src-volume-id"))
	}
	req.Bootable = r.yes("bootable")
	req.Destination = r.zone("dst-zone")
	req.Project = r.project("dst-tenant-id")
	req.DestinationType = block.TypeID(r.id("dst-volume-type-id"))
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		req.IdempotencyKey = "caller/" + key
		if !plain(key) {
			r.fail("Idempotency-Key", "must be at most 255 printable characters")
		}
	}
	if r.err == nil && req.SourceZone == req.Destination {
		r.fail("dst-zone", "must not be src-zone")
	}
	if r.err != nil {
		return answer{}, r.err
	}
	rowkey, err := s.cfg.Service.StartDR(r.Context(), req, r.user)
	if err != nil {
		return answer{}, err
	}
	return answer{body: startedBody{message, rowkey}, rowkey: rowkey}, nil
}

type jobsBody[Row any] struct {
	List []Row `json:"clist"`
}

// createRow and recoveryRow differ in what they name as the origin; the key's
// place in the order of the alphabet is the same.
type createRow struct {
	CreateEnd     *string          `json:"create_end"`
	CreateStart   *string          `json:"create_start"`
	DstSVMName    string           `json:"dst_svm_name"`
	DstZoneID     block.Zone       `json:"dst_zone_id"`
	NewVolumeID   *block.VolumeID  `json:"new_volume_id"`
	OrgSnapshotID block.SnapshotID `json:"org_snapshot_id"`
	OrgZoneID     block.Zone       `json:"org_zone_id"`
	ResultMsg     string           `json:"result_msg"`
	SrcSVMName    string           `json:"src_svm_name"`
	SrcZoneID     block.Zone       `json:"src_zone_id"`
	Status        block.DRStatus   `json:"status"`
}

type recoveryRow struct {
	CreateEnd   *string         `json:"create_end"`
	CreateStart *string         `json:"create_start"`
	DstSVMName  string          `json:"dst_svm_name"`
	DstZoneID   block.Zone      `json:"dst_zone_id"`
	NewVolumeID *block.VolumeID `json:"new_volume_id"`
	OrgVolumeID block.VolumeID  `json:"org_volume_id"`
	OrgZoneID   block.Zone      `json:"org_zone_id"`
	ResultMsg   string          `json:"result_msg"`
	SrcSVMName  string          `json:"src_svm_name"`
	SrcZoneID   block.Zone      `json:"src_zone_id"`
	Status      block.DRStatus  `json:"status"`
}

// createList answers /api/kvol/createlist.
func (s *Server) createList(r *request) (answer, error) {
	return list(s, r, block.DRCreate, func(j block.DRJob) createRow {
		return createRow{
			CreateEnd: s.stamp(j.End), CreateStart: s.stamp(j.Start), DstSVMName: j.DestinationSVM,
			DstZoneID: j.Request.Destination, NewVolumeID: orNull(j.NewVolume), OrgSnapshotID: j.Request.SourceSnapshot,
			OrgZoneID: j.Request.SourceZone, ResultMsg: j.Message, SrcSVMName: j.ReplicaSVM, SrcZoneID: j.ReplicaZone,
			Status: j.Status,
		}
	})
}

// recoveryList answers /api/kvol/recoverylist.
func (s *Server) recoveryList(r *request) (answer, error) {
	return list(s, r, block.DRRecovery, func(j block.DRJob) recoveryRow {
		return recoveryRow{
			CreateEnd: s.stamp(j.End), CreateStart: s.stamp(j.Start), DstSVMName: j.DestinationSVM,
			DstZoneID: j.Request.Destination, NewVolumeID: orNull(j.NewVolume), OrgVolumeID: j.Request.SourceVolume,
			OrgZoneID: j.Request.SourceZone, ResultMsg: j.Message, SrcSVMName: j.ReplicaSVM, SrcZoneID: j.ReplicaZone,
			Status: j.Status,
		}
	})
}

func list[Row any](s *Server, r *request, kind block.DRKind, row func(block.DRJob) Row) (answer, error) {
	rowkey, limit := r.number("rowkey", 0, math.MaxInt64, 0), r.number("limit", 1, maxLimit, 5)
	if r.err != nil {
		return answer{}, r.err
	}
	jobs, fresh, err := s.cfg.Service.DRJobs(r.Context(), kind, rowkey, int(limit))
	a := answer{fresh: fresh}
	if len(jobs) == 0 || err != nil {
		return a, err
	}
	body := jobsBody[Row]{}
	for _, j := range jobs {
		body.List = append(body.List, row(j))
	}
	a.body = body
	return a, nil
}
