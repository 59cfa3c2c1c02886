-- Once, of a database whose events were of microVMs only: their rows, an acceptance for each, and of images what is known.
INSERT INTO history
WITH named AS (
    SELECT microvm, generation, at,
           CASE json_type(what) WHEN 'text' THEN what ->> '$' ELSE (SELECT key FROM json_each(what)) END AS name,
           CASE json_type(what) WHEN 'text' THEN NULL ELSE (SELECT value FROM json_each(what)) END AS content
    FROM events
), old AS (
    SELECT account, started_at AS at, 'microvm' AS kind, id AS resource, 1 AS generation, image_arn AS image,
           version || '.0' AS version, 'Accepted' AS what, 'PENDING' AS state,
           COALESCE(doc ->> '$.memory_mib', 0) AS memory_mib, NULL AS memory_bytes, NULL AS disk_bytes, NULL AS reason
    FROM microvms
    UNION ALL
    SELECT account, at, 'microvm', id, named.generation, image_arn, version || '.0', name,
           CASE WHEN name IN ('Started', 'SuspendRefused', 'Resumed') THEN 'RUNNING'
                WHEN name = 'Idle' AND doc ->> '$.life.policy.suspended' = 0 THEN 'TERMINATING'
                WHEN name IN ('Suspend', 'Idle') THEN 'SUSPENDING'
                WHEN name IN ('Suspended', 'Resume', 'ResumeFailed') THEN 'SUSPENDED'
                WHEN name = 'Ended' THEN 'TERMINATED'
                ELSE 'TERMINATING' END,
           COALESCE(doc ->> '$.memory_mib', 0), NULL, NULL,
           CASE WHEN name = 'Exited' THEN 'Container Stopped with Exit Code: ' || content
                WHEN name = 'Ended' THEN doc ->> '$.life.reason'
                ELSE content END
    FROM named JOIN microvms ON microvms.id = named.microvm
    UNION ALL
    SELECT account, CAST(ROUND((versions.doc ->> '$.created_at') * 1000) AS INTEGER), 'image', arn, NULL, arn,
           number || '.0', IIF(number = 1, 'Created', 'Updated'), IIF(number = 1, 'CREATING', 'UPDATING'),
           COALESCE(versions.doc ->> '$.configuration.resources[0].minimumMemoryInMiB', 0), NULL, NULL, NULL
    FROM versions JOIN images ON images.id = versions.image
    UNION ALL
    SELECT account, CAST(ROUND((versions.doc ->> '$.updated_at') * 1000) AS INTEGER), 'image', arn, NULL, arn,
           number || '.0', IIF(made, 'BuildSucceeded', 'BuildFailed'),
           IIF(number = 1, IIF(made, 'CREATED', 'CREATE_FAILED'), IIF(made, 'UPDATED', 'UPDATE_FAILED')),
           COALESCE(versions.doc ->> '$.configuration.resources[0].minimumMemoryInMiB', 0),
           IIF(made, COALESCE(versions.doc ->> '$.build.snapshot.memorySnapshotSizeInBytes', 0), NULL),
           IIF(made, COALESCE(versions.doc ->> '$.build.snapshot.diskSnapshotSizeInBytes', 0), NULL),
           versions.doc ->> '$.build.reason'
    FROM (SELECT *, doc ->> '$.build.progress' = 'Successful' AS made FROM versions
          WHERE doc ->> '$.build.progress' IN ('Successful', 'Failed')) AS versions
         JOIN images ON images.id = versions.image
), placed AS (
    -- A clock that was set back does not change the order of what happened to one microVM.
    SELECT *, MAX(at) OVER (PARTITION BY resource ORDER BY generation, at) AS place FROM old
)
SELECT account, ROW_NUMBER() OVER (PARTITION BY account ORDER BY place, resource, generation), at, kind, resource,
       generation, image, version, what, state, memory_mib, memory_bytes, disk_bytes, reason
FROM placed;

INSERT INTO history_numbers SELECT account, MAX(n) FROM history GROUP BY account;

DROP TABLE events;
