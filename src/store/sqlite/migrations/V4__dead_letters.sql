-- The few that a person may have to look at.
CREATE INDEX decision_refused ON decision (row) WHERE outcome >= 3;
