-- Up to which number it has been looked at again: each subject is answered for by
-- itself, also while it was asked once more, and while another one takes its time.
ALTER TABLE duty_asks ADD COLUMN looked BIGINT NOT NULL DEFAULT 0;
