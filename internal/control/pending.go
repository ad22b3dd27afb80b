package control

import (
	"context"

	"kvol/internal/block"
)

func (s *Service) CreateVolume(ctx context.Context, c block.Caller, req NewVolume) (block.Volume, error) {
	return block.Volume{}, nil
}
func (s *Service) Volume(ctx context.Context, c block.Caller, id block.VolumeID) (block.Volume, error) {
	return block.Volume{}, nil
}
func (s *Service) Volumes(ctx context.Context, c block.Caller, q block.ListQuery) ([]block.Volume, error) {
	return nil, nil
}
func (s *Service) UpdateVolume(ctx context.Context, c block.Caller, id block.VolumeID, change VolumeChange) (block.Volume, error) {
	return block.Volume{}, nil
}
func (s *Service) DeleteVolume(ctx context.Context, c block.Caller, id block.VolumeID, cascade bool) error {
	return nil
}
func (s *Service) ForceDeleteVolume(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return nil
}
func (s *Service) SetVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID, metadata map[string]string, replace bool) (map[string]string, error) {
	return nil, nil
}
func (s *Service) DeleteVolumeMetadata(ctx context.Context, c block.Caller, id block.VolumeID, key string) error {
	return nil
}
func (s *Service) ExtendVolume(ctx context.Context, c block.Caller, id block.VolumeID, newSizeGiB int64) error {
	return nil
}
func (s *Service) Reserve(ctx context.Context, c block.Caller, id block.VolumeID) error   { return nil }
func (s *Service) Unreserve(ctx context.Context, c block.Caller, id block.VolumeID) error { return nil }
func (s *Service) BeginDetaching(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return nil
}
func (s *Service) RollDetaching(ctx context.Context, c block.Caller, id block.VolumeID) error {
	return nil
}
func (s *Service) Attach(ctx context.Context, c block.Caller, id block.VolumeID, req AttachRequest) error {
	return nil
}
func (s *Service) Detach(ctx context.Context, c block.Caller, id block.VolumeID, attachmentID *block.AttachmentID) error {
	return nil
}
func (s *Service) InitializeConnection(ctx context.Context, c block.Caller, id block.VolumeID, connector map[string]any) (ConnectionInfo, error) {
	return ConnectionInfo{}, nil
}
func (s *Service) TerminateConnection(ctx context.Context, c block.Caller, id block.VolumeID, connector map[string]any) error {
	return nil
}
func (s *Service) ResetVolumeStatus(ctx context.Context, c block.Caller, id block.VolumeID, reset VolumeReset) error {
	return nil
}
func (s *Service) SetBootable(ctx context.Context, c block.Caller, id block.VolumeID, bootable bool) error {
	return nil
}
func (s *Service) SetReadonly(ctx context.Context, c block.Caller, id block.VolumeID, readonly bool) error {
	return nil
}
func (s *Service) SetImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID, metadata map[string]string) (map[string]string, error) {
	return nil, nil
}
func (s *Service) ImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID) (map[string]string, error) {
	return nil, nil
}
func (s *Service) UnsetImageMetadata(ctx context.Context, c block.Caller, id block.VolumeID, key string) error {
	return nil
}
func (s *Service) UploadImage(ctx context.Context, c block.Caller, id block.VolumeID, req UploadRequest) (Upload, error) {
	return Upload{}, nil
}
func (s *Service) CreateSnapshot(ctx context.Context, c block.Caller, req NewSnapshot) (block.Snapshot, error) {
	return block.Snapshot{}, nil
}
func (s *Service) Snapshot(ctx context.Context, c block.Caller, id block.SnapshotID) (block.Snapshot, error) {
	return block.Snapshot{}, nil
}
func (s *Service) Snapshots(ctx context.Context, c block.Caller, q block.ListQuery) ([]block.Snapshot, error) {
	return nil, nil
}
func (s *Service) UpdateSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID, change SnapshotChange) (block.Snapshot, error) {
	return block.Snapshot{}, nil
}
func (s *Service) DeleteSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID) error {
	return nil
}
func (s *Service) ForceDeleteSnapshot(ctx context.Context, c block.Caller, id block.SnapshotID) error {
	return nil
}
func (s *Service) ResetSnapshotStatus(ctx context.Context, c block.Caller, id block.SnapshotID, status string) error {
	return nil
}
func (s *Service) SetSnapshotMetadata(ctx context.Context, c block.Caller, id block.SnapshotID, metadata map[string]string, replace bool) (map[string]string, error) {
	return nil, nil
}
func (s *Service) DeleteSnapshotMetadata(ctx context.Context, c block.Caller, id block.SnapshotID, key string) error {
	return nil
}
func (s *Service) Types(ctx context.Context, c block.Caller, q block.ListQuery) ([]block.VolumeType, error) {
	return nil, nil
}
func (s *Service) Type(ctx context.Context, c block.Caller, idOrName string) (block.VolumeType, error) {
	return block.VolumeType{}, nil
}
func (s *Service) Limits(ctx context.Context, c block.Caller) (Limits, error) { return nil, nil }
func (s *Service) Quotas(ctx context.Context, c block.Caller, project block.ProjectID) (map[string]QuotaUse, error) {
	return nil, nil
}
func (s *Service) QuotaDefaults(ctx context.Context, c block.Caller) (map[string]int64, error) {
	return nil, nil
}
func (s *Service) SetQuotas(ctx context.Context, c block.Caller, project block.ProjectID, limits map[string]int64) error {
	return nil
}
func (s *Service) DeleteQuotas(ctx context.Context, c block.Caller, project block.ProjectID) error {
	return nil
}
func (s *Service) AvailabilityZones(ctx context.Context, c block.Caller) []AvailabilityZone {
	return nil
}
func (s *Service) Fence(ctx context.Context, f block.Fence) error { return nil }
func (s *Service) HoldExports(held func(block.Volume) bool)       {}
func (s *Service) ReleaseExports()                                {}
