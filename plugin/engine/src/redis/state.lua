-- What the admin APIs of a fleet have changed: one text, with the tag of the version that it is.
--
-- KEYS[1] holds both. ARGV[1] is the tag that the caller knows, empty where it knows of none; to store the version that
-- follows, ARGV[2] and ARGV[3] are its tag and its text. Answers {0, now}: the caller knows the version that is here;
-- {1, now, text}: it is another one, and nothing was stored; {2, now}: stored. `now` is this clock's, in microseconds, by
-- which grants end for the whole fleet. The key never expires: what was put stays until it is taken back.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local here = redis.pcall('HMGET', KEYS[1], 'tag', 'text')
if here.err then return here end
if (here[1] or '') ~= ARGV[1] then return { 1, now, here[2] or '' } end
if not ARGV[2] then return { 0, now } end
local stored = redis.pcall('HSET', KEYS[1], 'tag', ARGV[2], 'text', ARGV[3])
if type(stored) == 'table' then return stored end
return { 2, now }
