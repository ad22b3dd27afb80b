-- Limits of projects without settings of their own: those of the class "default".

CREATE TABLE quota_classes (
    class    TEXT NOT NULL,
    resource TEXT NOT NULL,
    max      BIGINT NOT NULL,
    PRIMARY KEY (class, resource)
);
