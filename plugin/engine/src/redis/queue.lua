-- Queued requests in Redis: each step of a job as one atomic step of a server, on its clock, in milliseconds.
--
-- KEYS[1]  `tg1:{<namespace>:q}:`. All keys begin with it, so that a Cluster keeps them together:
--   due:<rule>     sorted set: the jobs of a rule that have not ended, by the moment from which one may be claimed.
--   rules          set: the rules that have such jobs.
--   job:<ticket>   hash: r rule, d the request, n tries, m tries at most, t how long a claim holds, u when it is given up,
--                  k how long it is kept, l how long its result is; c who holds it; s how it ended, a the answer.
--   claim:<holder> set: what one claim took, so that a claim whose answer was lost can be asked for again.
--   dead           sorted set: the jobs whose last try failed, by when it did. They keep their requests.
-- ARGV[1]  the step; what else it takes, and what it answers, stands with each.

local call, time = redis.call, redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local base, step, ticket, holder = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local dead, rules = base .. 'dead', base .. 'rules'
-- Dead letters that are kept, and for how long.
local MOST, WEEK = 1000, 604800000

local function job(id) return base .. 'job:' .. id end
local function line(rule) return base .. 'due:' .. rule end

-- Never shortens.
local function keep(key, ms)
  if call('PTTL', key) - ms < 0 then call('PEXPIRE', key, ms) end
end

-- ZREM comes first wherever a job leaves its line: a full Redis lets a script write on that has freed something.
local function finish(id, rule, state, answer, life)
  local key = job(id)
  call('ZREM', line(rule), id)
  call('HSET', key, 's', state, 'a', answer)
  if state == 'done' then
    call('HDEL', key, 'd')
    call('PEXPIRE', key, life)
    return
  end
  call('PEXPIRE', key, WEEK)
  call('ZADD', dead, now, id)
  call('PEXPIRE', dead, WEEK)
  call('ZREMRANGEBYSCORE', dead, '-inf', now - WEEK)
  for _, old in ipairs(call('ZRANGE', dead, 0, -1 - MOST)) do
    call('ZREM', dead, old)
    local left = call('HGET', job(old), 'l')
    if left then
      call('HDEL', job(old), 'd')
      call('PEXPIRE', job(old), left)
    end
  end
end

-- put TICKET RULE most delay t m wait k l d: {1 if it is stored now, jobs of the rule}
if step == 'put' then
  local rule, key = ARGV[3], job(ticket)
  local set = line(rule)
  local count = call('ZCARD', set)
  if call('EXISTS', key) == 0 then
    if count >= ARGV[4] + 0 then return { 0, count } end
    call('SISMEMBER', rules, rule)
    local due = now + 1 + ARGV[5]
    call('HSET', key, 'r', rule, 'n', 0, 't', ARGV[6], 'm', ARGV[7], 'u', due + ARGV[8], 'k', ARGV[9], 'l', ARGV[10],
      'd', ARGV[11])
    call('ZADD', set, due, ticket)
    call('SADD', rules, rule)
    count = count + 1
    for _, each in ipairs({ key, set, rules }) do keep(each, ARGV[9] + 0) end
  end
  return { 1, count }
end

-- claim HOLDER most bytes: {1 if more are due, rules, for each its name, its jobs and how many of them failed just now;
-- for each job claimed its ticket, which try this is, and the request}
if step == 'claim' then
  local left, room, holds = ARGV[3] + 0, ARGV[4] + 0, base .. 'claim:' .. ticket
  local held, names, jobs = call('SMEMBERS', holds), call('SMEMBERS', rules), {}
  local answer = { 0, #names }
  local function hand(id, rule, hold, tries, request)
    call('ZADD', line(rule), now + hold, id)
    for _, each in ipairs({ id, tonumber(tries), request }) do jobs[#jobs + 1] = each end
  end
  for _, id in ipairs(held) do
    local of = call('HMGET', job(id), 'r', 't', 'n', 'd', 'c', 's')
    if of[5] == ticket and not of[6] then hand(id, of[1], of[2], of[3], of[4]) end
  end
  for i = 1, #names do
    -- Another rule first each time, and to each its share.
    local rule, failed = names[(i + now) % #names + 1], 0
    local set, share = line(rule), math.max(1, math.floor(left / (#names - i + 1)))
    if #held > 0 or left < 1 then share = 0 end
    for _, id in ipairs(call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, share)) do
      local key = job(id)
      local of = call('HMGET', key, 'r', 't', 'n', 'd', 'm', 'k')
      if not of[4] then
        call('ZREM', set, id)
      elseif of[3] - of[5] >= 0 then
        finish(id, rule, 'failed', '')
        failed = failed + 1
      elseif #jobs == 0 or #of[4] <= room then
        room, left = room - #of[4], left - 1
        call('ZREM', set, id)
        call('HSET', key, 'c', ticket)
        call('SADD', holds, id)
        call('PEXPIRE', holds, 60000)
        keep(key, of[6] + 0)
        keep(set, of[6] + 0)
        hand(id, rule, of[2], call('HINCRBY', key, 'n', 1), of[4])
      end
    end
    if call('ZCOUNT', set, '-inf', now) > 0 then answer[1] = 1 end
    local count = call('ZCARD', set)
    if count == 0 then call('SREM', rules, rule) else keep(rules, call('PTTL', set)) end
    for _, each in ipairs({ rule, count, failed }) do answer[#answer + 1] = each end
  end
  for _, each in ipairs(jobs) do answer[#answer + 1] = each end
  return answer
end

local key = job(ticket)
local of = call('HMGET', key, 'r', 'c', 's', 'n', 'u', 'l', 'k', 'a')
local rule, ended = of[1], of[3]
-- The job is not there (any more).
if not rule then return { 0 } end

-- drop TICKET: {1 if it is gone, untried}
if step == 'drop' then
  if ended or of[4] ~= '0' then return { 0 } end
  call('ZREM', line(rule), ticket)
  return { call('DEL', key) }
end

-- look TICKET: {1 waiting, 2 running, 3 done, 4 failed; the rule, tries, ms until it is due, the answer}
if step == 'look' then
  local left = math.max(0, (call('ZSCORE', line(rule), ticket) or 0) - now)
  local state = ended == 'done' and 3 or ended and 4 or of[2] and left > 0 and 2 or 1
  return { state, rule, tonumber(of[4]), left, of[8] or '' }
end

-- Only the holder's word counts from here on: {0} to anybody else.
if of[2] ~= holder then return { 0 } end

-- end TICKET HOLDER `done`|`failed` answer: {1}
if step == 'end' then
  if not ended then finish(ticket, rule, ARGV[4], ARGV[5], of[6]) end
  return { 1 }
end

-- again TICKET HOLDER delay unsent: {1}, or {2} where it was given up. A try that was not sent counts as none.
if step == 'again' then
  if ended then return { 0 } end
  if ARGV[5] == '1' then
    call('HINCRBY', key, 'n', -1)
    if now - of[5] >= 0 then
      finish(ticket, rule, 'failed', '')
      return { 2 }
    end
  end
  call('HDEL', key, 'c')
  call('ZADD', line(rule), now + 1 + ARGV[4], ticket)
  keep(key, of[7] + 0)
  keep(line(rule), of[7] + 0)
  return { 1 }
end

return redis.error_reply('TIDEGATE no such step')
