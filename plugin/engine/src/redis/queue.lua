-- Queued requests in Redis: each step of a job as one atomic step of a server, on its clock, in milliseconds.
--
-- KEYS[1]  `tg1:{<namespace>:q}:`. All keys begin with it, so that a Cluster keeps them together:
--   due:<rule>     sorted set: the jobs of a rule that have not ended, by the moment from which one may be claimed.
--   rules          set: the rules that have such jobs.
--   job:<ticket>   hash: r rule, d the request, n tries, m tries at most, t how long a claim holds, u when it is given up,
--                  k how long it is kept, l how long its result is; o the moment that it had reserved, i its line,
--                  g the window that spaces it; c who holds it; s how it ended, a the answer.
--   claim:<holder> set: what one claim took, so that a claim whose answer was lost can be asked for again.
--   lag:<line>     string, `lag last`: how far the jobs that one counter spaces run behind the moments that they had
--                  reserved, and the last of these moments that was seen. Only while they do.
--   dead           sorted set: the jobs whose last try failed, by when it did. They keep their requests.
-- ARGV[1]  the step; what else it takes, and what it answers, stands with each.

local call, time = redis.call, redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local base, step, ticket, holder = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local dead, rules = base .. 'dead', base .. 'rules'
-- Dead letters that are kept, and for how long.
local MOST, WEEK = 1000, 604800000

-- A job that is later than this was kept back: its line goes on from there as it was reserved, not all at once.
local LATE = 1500

local function job(id) return base .. 'job:' .. id end
local function line(rule) return base .. 'due:' .. rule end

-- Never shortens.
local function keep(key, ms)
  if call('PTTL', key) - ms < 0 then call('PEXPIRE', key, ms) end
end

-- From when the job of a line may be tried that had reserved `own`: behind the one before it by what was reserved between
-- them, or by the gap where that is less, since a limit asks for no pause beyond its window. Never before `least`.
local function slot(name, own, gap, least)
  local key = base .. 'lag:' .. name
  local lag, last = string.match(call('GET', key) or '', '(%d+) (%d+)')
  lag, last = lag or 0, last or own
  lag = math.max(math.min(lag, last + lag + gap - own), least - own, 0)
  if lag > 0 then call('SET', key, lag .. ' ' .. math.max(last, own), 'PX', lag + gap + LATE) end
  return own + lag
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

-- put TICKET RULE most delay t m wait k l i g d: {1 if it is stored now, jobs of the rule}
if step == 'put' then
  local rule, key = ARGV[3], job(ticket)
  local set = line(rule)
  local count = call('ZCARD', set)
  if call('EXISTS', key) == 0 then
    if count >= ARGV[4] + 0 then return { 0, count } end
    call('SISMEMBER', rules, rule)
    local due = now + 1 + ARGV[5]
    call('HSET', key, 'r', rule, 'n', 0, 't', ARGV[6], 'm', ARGV[7], 'u', due + ARGV[8], 'k', ARGV[9], 'l', ARGV[10],
      'o', due, 'i', ARGV[11], 'g', ARGV[12], 'd', ARGV[13])
    call('ZADD', set, due, ticket)
    call('SADD', rules, rule)
    count = count + 1
    for _, each in ipairs({ key, set, rules }) do keep(each, ARGV[9] + 0) end
  end
  return { 1, count }
end

-- claim HOLDER most bytes: {0, or 1 and in how many ms there is more to claim, rules, for each its name, its jobs and how
-- many of them failed just now; for each job claimed its ticket, which try this is, and the request}
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
    local rule, failed, lags = names[(i + now) % #names + 1], 0, 0
    local set, share = line(rule), math.max(1, math.floor(left / (#names - i + 1)))
    if #held > 0 or left < 1 then share = 0 end
    local due = call('ZRANGEBYSCORE', set, '-inf', now, 'WITHSCORES', 'LIMIT', 0, share)
    for j = 1, #due, 2 do
      local id = due[j]
      local key = job(id)
      local of = call('HMGET', key, 'r', 't', 'n', 'd', 'm', 'k', 'o', 'i', 'g')
      if not of[4] then
        call('ZREM', set, id)
      elseif of[3] - of[5] >= 0 then
        finish(id, rule, 'failed', '')
        failed = failed + 1
      elseif #jobs == 0 or #of[4] <= room then
        call('ZREM', set, id)
        -- What is tried again comes on top: it had its moment.
        local own, at = of[7], 0
        if own and of[3] == '0' then
          at = slot(of[8], own, of[9], now - due[j + 1] > LATE and now or 0)
          if at - own > 0 then lags = 1 end
        end
        if at > now then
          call('ZADD', set, at, id)
        else
          room, left = room - #of[4], left - 1
          call('HSET', key, 'c', ticket)
          call('SADD', holds, id)
          call('PEXPIRE', holds, 60000)
          hand(id, rule, of[2], call('HINCRBY', key, 'n', 1), of[4])
        end
        keep(key, of[6] + 0)
        keep(set, of[6] + 0)
      end
    end
    -- Whoever puts a job comes when that is due, but nobody for one that its line has kept back.
    local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
    if first and (lags > 0 or first - now <= 0) then
      local wait = 1 + math.max(first - now, lags)
      answer[1] = answer[1] > 0 and math.min(answer[1], wait) or wait
    end
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
