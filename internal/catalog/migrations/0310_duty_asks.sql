-- What others want the holder of a duty to look at again, up to which number of
-- duties.asked; '' is all of it. The holder removes what it has looked at.
CREATE TABLE duty_asks (
    duty  TEXT NOT NULL,
    about TEXT NOT NULL,
    asked BIGINT NOT NULL,
    PRIMARY KEY (duty, about)
);
