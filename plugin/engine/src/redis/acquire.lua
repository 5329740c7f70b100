-- The counters of the four algorithms in Redis: what `Acquire::settle` does in memory, as one atomic step of a server.
-- The formulas, their sources and worked numbers stand beside the Rust, in `algorithm/`; a property test compares every
-- verdict of this script with it, to the microsecond.
--
-- KEYS     one cell each.
-- ARGV[1]  `acquire`; `probe`, which says what acquire would but charges nothing; `refund`; `clear`, which forgets the cells.
-- ARGV[2]  and on, one line a key: `algorithm rate window burst horizon cost mode most less`.
--          algorithm: `t`oken bucket, `l`eaky bucket, `f`ixed window, `s`liding window. mode: `m`ust conform now, `w` must
--          conform and may wait up to the horizon, `s`oft. most: up to this many units in all are charged where they
--          conform now, `cost` of them for the request and the others as a lease; in a refund, the moment that was charged
--          for. less: what a token bucket's tolerance is short of, for its leases' lives. All times in microseconds.
--
-- Answer: {1 if granted, now}, then for each key wait (-1: for ever), units charged, remaining, reset_after, the lease's
-- life; for a refund {1}. Nothing is written before all is read, so an error changes nothing.
--
-- Numbers are doubles, exact below 2^53. `now` stays below 2^53 - 2^50, windows and horizons below 2^48; no product is
-- larger than 2 x 10^7 x 10^7. A value is `<algorithm>1 ` and three numbers, or for a sliding window three numbers and
-- sixteen bytes. It expires when it equals no value at all (`keep`).

local FOREVER = -1
local max, min, floor, format = math.max, math.min, math.floor, string.format

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- What a refund may still need (marks, seals) is kept past the cell's own life for so many windows and the horizon.
-- A charge is given back within one window and the horizon, or not at all.
local WINDOWS_KEPT = 32

-- Part 1: moments between microseconds, as whole microseconds and a numerator over the rate.

-- `n` emission intervals of window / rate: c.whole and c.rest are that quotient and its remainder.
local function intervals(c, n)
  local parts = n * c.rest
  local part = parts % c.rate
  return n * c.whole + (parts - part) / c.rate, part
end

local function plus(c, a, a_part, b, b_part)
  local part = a_part + b_part
  if part >= c.rate then return a + b + 1, part - c.rate end
  return a + b, part
end

-- Zero where b is larger.
local function minus(c, a, a_part, b, b_part)
  if a < b or (a == b and a_part <= b_part) then return 0, 0 end
  if a_part >= b_part then return a - b, a_part - b_part end
  return a - b - 1, a_part + c.rate - b_part
end

local function ceil(whole, part)
  if part > 0 then return whole + 1 end
  return whole
end

-- How many whole intervals fit, at most `most`. The division may be off by one; the comparisons are exact.
local function count(c, room, room_part, most)
  local n = min(most, floor((room + room_part / c.rate) * c.rate / c.window))
  local function fits(n)
    local length, part = intervals(c, n)
    return length < room or (length == room and part <= room_part)
  end
  while n > 0 and not fits(n) do n = n - 1 end
  while n < most and fits(n + 1) do n = n + 1 end
  return n
end

-- Algorithms by letter. Made when a request first asks for one: a script is run from its first line each time.
local MAKE, made = {}, {}

-- Part 2: token bucket and leaky bucket. c.tat, c.part: the theoretical arrival time; c.mark: the latest moment that was
-- charged for on any clock.

local function bucket(letter)
  local own = { pattern = '^' .. letter .. '1 (%d+) (%d+) (%d+)$' }

  function own.new(c) c.tat, c.part, c.mark = 0, 0, 0 end

  function own.load(c, tat, part, mark)
    c.tat, c.part, c.mark = tonumber(tat), min(tonumber(part), c.rate - 1), tonumber(mark)
  end

  -- A cell of a clock that stepped back: to the fullest state that is possible now.
  function own.pull(c)
    local bound, part = plus(c, c.latest, 0, own.full(c))
    if c.tat < bound or (c.tat == bound and c.part <= part) then return end
    c.mark = max(c.mark, ceil(c.tat, c.part) + 1)
    c.tat, c.part, c.changed = bound, part, true
  end

  -- The charge takes `cost` intervals from `start` on and is released at `release`.
  function own.planned(c, start, start_part, cost, release)
    c.to, c.to_part = plus(c, start, start_part, intervals(c, cost))
    c.release = release
    return release - now
  end

  function own.commit(c)
    c.tat, c.part, c.mark = c.to, c.to_part, max(c.mark, c.release)
  end

  function own.refund(c, units, at)
    local drained = max(0, max(now, c.mark) - at)
    local back, back_part = intervals(c, units)
    back, back_part = minus(c, back, back_part, drained, 0)
    c.tat, c.part = minus(c, c.tat, c.part, back, back_part)
  end

  function own.like_new_at(c) return ceil(c.tat, c.part) end
  function own.sealed_until(c) return c.mark + 1 end
  function own.text(c) return format('%s1 %.0f %.0f %.0f', letter, c.tat, c.part, c.mark) end
  return own
end

function MAKE.t()
  local token = bucket('t')

  function token.full(c) return intervals(c, c.burst) end

  function token.plan(c, cost)
    if cost > c.burst then return FOREVER end
    local spare, spare_part = intervals(c, c.burst - cost)
    if spare < c.less then return FOREVER end
    local due = ceil(minus(c, c.tat, c.part, spare - c.less, spare_part))
    local release = max(due, now)
    if c.tat >= release then return token.planned(c, c.tat, c.part, cost, release) end
    return token.planned(c, release, 0, cost, release)
  end

  function token.standing(c)
    local room, room_part = plus(c, now - c.less, 0, token.full(c))
    if c.tat < now then
      room = room - now
    else
      room, room_part = minus(c, room, room_part, c.tat, c.part)
    end
    return count(c, room, room_part, c.burst), max(0, ceil(c.tat, c.part) - now)
  end

  function token.life(c) return c.less end
  return token
end

function MAKE.l()
  local leaky = bucket('l')

  -- The largest cost drains for one window.
  function leaky.full(c) return c.window, 0 end

  function leaky.plan(c, cost)
    if cost > c.rate then return FOREVER end
    local due = ceil(c.tat, c.part)
    if due >= now then return leaky.planned(c, c.tat, c.part, cost, due) end
    return leaky.planned(c, now, 0, cost, now)
  end

  function leaky.standing(c)
    local reset = max(0, ceil(c.tat, c.part) - now)
    if reset > 0 then return 0, reset end
    return 1, reset
  end

  -- Never leased: its requests pass one by one.
  function leaky.life() return 0 end
  return leaky
end

-- What both windows share: when a cell's window takes requests, and when a lease ends.

local function opens_after(c, width)
  if c.horizon == 0 then return 0 end
  return max(0, c.number * width - now)
end

-- A lease ends with its window. A cell ahead of the clock is not leased.
local function until_end(c, width)
  local current = floor(now / width)
  if c.number > current then return 0 end
  return (current + 1) * width - now
end

-- Part 3: the fixed window. c.number, c.count; c.seal: the highest number used before the clock stepped back, or 0.

function MAKE.f()
  local fixed = { pattern = '^f1 (%d+) (%d+) (%d+)$' }

  function fixed.new(c) c.number, c.count, c.seal = 0, 0, 0 end

  function fixed.load(c, number, units, seal)
    c.number, c.count, c.seal = tonumber(number), min(tonumber(units), c.rate), tonumber(seal)
  end

  local function move_to(c, number)
    if number <= c.number then return end
    if c.seal < number then c.seal = 0 end
    c.number, c.count = number, 0
  end

  function fixed.pull(c)
    local latest = floor(c.latest / c.window)
    if c.number > latest then
      c.number, c.seal, c.changed = latest, max(c.seal, c.number), true
    end
  end

  function fixed.plan(c, cost)
    if cost > c.rate then return FOREVER end
    move_to(c, floor(now / c.window))
    if c.count + cost <= c.rate then
      c.to, c.to_count = c.number, c.count + cost
      return opens_after(c, c.window)
    end
    c.to, c.to_count = c.number + 1, cost
    return max(0, c.to * c.window - now)
  end

  function fixed.commit(c)
    move_to(c, c.to)
    c.count = c.to_count
  end

  function fixed.standing(c)
    move_to(c, floor(now / c.window))
    local opens, remaining = opens_after(c, c.window), 0
    if opens == 0 then remaining = c.rate - c.count end
    if c.count == 0 then return remaining, opens end
    return remaining, max(0, (c.number + 1) * c.window - now)
  end

  function fixed.refund(c, units, at)
    local charged = floor(at / c.window)
    if charged == c.number and charged > c.seal then c.count = max(0, c.count - units) end
  end

  function fixed.life(c) return until_end(c, c.window) end
  function fixed.like_new_at(c) return (c.number + 1) * c.window end

  function fixed.sealed_until(c)
    if c.seal == 0 then return 0 end
    return (c.seal + 1) * c.window
  end

  function fixed.text(c) return format('f1 %.0f %.0f %.0f', c.number, c.count, c.seal) end
  return fixed
end

-- Part 4: the sliding window. c.number: the sub-window; c.open: its count; c.closed[1] (the newest) to c.closed[16]:
-- those before it, in units of c.unit; c.seal: in what block of sub-windows nothing is refunded.

function MAKE.s()
  local sliding = { pattern = '^s1 (%d+) ([0-3]) (%d+) (................)$' }
  local CLEARED = 17
  local NOTHING = string.rep('\0', 16)

  local function block_size(seal)
    if seal <= 1 then return 256 end
    if seal == 2 then return 65536 end
    return 274877906944
  end

  local function block(seal, number) return floor(max(0, number - CLEARED) / block_size(seal)) end

  function sliding.new(c) sliding.load(c, 0, 0, 0, NOTHING) end

  function sliding.load(c, number, seal, open, closed)
    c.number, c.seal, c.open = tonumber(number), tonumber(seal), min(tonumber(open), c.rate)
    c.closed = { string.byte(closed, 1, 16) }
    c.unit = math.ceil(c.rate / 255)
  end

  function sliding.pull(c)
    local latest = floor(c.latest / c.width)
    if c.number <= latest then return end
    local last = c.number
    if c.seal > 0 then last = max(last, (block(c.seal, c.number) + 1) * block_size(c.seal)) end
    local seal = 1
    while seal < 3 and floor(last / block_size(seal)) ~= block(seal, latest) do seal = seal + 1 end
    c.number, c.seal, c.changed = latest, seal, true
  end

  -- Units held when the cell has moved on: the oldest counts go.
  local function held_after(c, moves)
    if moves >= CLEARED then return 0 end
    local units = 0
    for age = 1, 16 - moves do units = units + c.closed[age] end
    return units * c.unit + c.open
  end

  function sliding.plan(c, cost)
    if cost > c.rate then return FOREVER end
    local behind = max(0, floor(now / c.width) - c.number)
    local moves = behind
    while moves < CLEARED and held_after(c, moves) + cost > c.rate do moves = moves + 1 end
    c.moves, c.cost_planned = moves, cost
    if moves == 0 then return opens_after(c, c.width) end
    return max(0, (c.number + moves) * c.width - now)
  end

  function sliding.commit(c)
    local moves = c.moves
    if moves > 0 then
      if block(c.seal, c.number + moves) ~= block(c.seal, c.number) then c.seal = 0 end
      local units = min(255, floor(c.open / c.unit))
      for age = 16, 1, -1 do
        if age > moves then c.closed[age] = c.closed[age - moves] else c.closed[age] = 0 end
      end
      if moves < CLEARED then
        c.closed[moves], c.open = units, c.open - units * c.unit
      else
        c.open = 0
      end
      c.number = c.number + moves
    end
    c.open = c.open + c.cost_planned
  end

  function sliding.standing(c)
    local held = held_after(c, max(0, floor(now / c.width) - c.number))
    local opens, remaining = opens_after(c, c.width), 0
    if opens == 0 then remaining = max(0, c.rate - held) end
    if held == 0 then return remaining, opens end
    return remaining, max(0, sliding.like_new_at(c) - now)
  end

  -- From the sub-window that was charged only; a closed one gives whole units.
  function sliding.refund(c, units, at)
    if c.seal ~= 0 then return end
    local age = c.number - floor(at / c.width)
    if age == 0 then
      c.open = max(0, c.open - units)
    elseif age >= 1 and age <= 16 then
      c.closed[age] = max(0, c.closed[age] - floor(units / c.unit))
    end
  end

  function sliding.life(c) return until_end(c, c.width) end
  function sliding.like_new_at(c) return (c.number + CLEARED) * c.width end

  function sliding.sealed_until(c)
    if c.seal == 0 then return 0 end
    return ((block(c.seal, c.number) + 1) * block_size(c.seal) + CLEARED) * c.width
  end

  function sliding.text(c)
    return format('s1 %.0f %d %.0f ', c.number, c.seal, c.open) .. string.char(unpack(c.closed))
  end
  return sliding
end

-- Part 5: the request.

local LINE = '^([tlfs]) (%d+) (%d+) (%d+) (%d+) (%d+) ([mws]) (%d+) (%d+)$'

-- The cell of a key as it is read now. Second: an error to answer with.
local function read(key, line)
  local letter, rate, window, burst, horizon, cost, mode, most, less = string.match(line or '', LINE)
  if not letter then return nil, redis.error_reply('TIDEGATE an argument is not as this script wants it') end
  local own = made[letter] or MAKE[letter]()
  made[letter] = own
  local c = {
    key = key, own = own, rate = tonumber(rate), window = tonumber(window), burst = tonumber(burst),
    horizon = tonumber(horizon), cost = tonumber(cost), mode = mode, most = tonumber(most), less = tonumber(less),
  }
  c.rest = c.window % c.rate
  c.whole = (c.window - c.rest) / c.rate
  c.width = floor(c.window / 16)
  c.latest = now + c.horizon + c.width
  c.reach = mode == 'w' and c.horizon or 0
  local text = redis.pcall('GET', key)
  if type(text) == 'table' then return nil, text end
  if not text then
    own.new(c)
    return c
  end
  local first, second, third, fourth = string.match(text, own.pattern)
  if not first then return nil, redis.error_reply('TIDEGATE a key holds what is not of this script') end
  own.load(c, first, second, third, fourth)
  own.pull(c)
  c.found = true
  return c
end

-- Stores a cell until it is like new, and until nothing that it must not give back can be refunded any more. Whole
-- milliseconds, rounded up, and one more: Redis's own clock is read in milliseconds.
local function store(c)
  local sealed = min(c.own.sealed_until(c) - now, WINDOWS_KEPT * c.window + c.horizon)
  local keep = max(0, c.own.like_new_at(c) - now, sealed)
  return redis.pcall('SET', c.key, c.own.text(c), 'PX', format('%.0f', math.ceil(keep / 1000) + 1))
end

local function admits(c) return c.wait ~= FOREVER and c.wait <= c.reach end

-- Charges what was planned, and as many more units as are wanted and conform now. Returns the units and how long those
-- beyond the cost may be spent.
local function charge(c)
  local units, life = 0, 0
  if c.cost > 0 and admits(c) then
    c.own.commit(c)
    units = c.cost
  end
  if c.most > c.cost and c.wait == 0 then
    local more = min(c.most - c.cost, (c.own.standing(c)))
    life = c.own.life(c)
    if more > 0 and life > 0 and c.own.plan(c, more) == 0 then
      c.own.commit(c)
      units = units + more
    else
      life = 0
    end
  end
  c.changed = c.changed or units > 0
  return units, life
end

local op = ARGV[1]
if now >= 7.8e15 then return redis.error_reply("TIDEGATE the server's clock is past the year 2217") end
if #ARGV ~= #KEYS + 1 or not (op == 'acquire' or op == 'probe' or op == 'refund' or op == 'clear') then
  return redis.error_reply('TIDEGATE the call is not as this script wants it')
end

if op == 'clear' then
  for _, key in ipairs(KEYS) do redis.call('DEL', key) end
  return { 1 }
end

local cells = {}
for i, key in ipairs(KEYS) do
  local c, problem = read(key, ARGV[i + 1])
  if problem then return problem end
  cells[i] = c
end

local answer = { 1 }
if op == 'refund' then
  for _, c in ipairs(cells) do
    if c.found then
      c.own.refund(c, c.cost, c.most)
      c.changed = true
    end
  end
else
  local granted = 1
  for _, c in ipairs(cells) do
    c.wait = 0
    if c.cost > 0 then c.wait = c.own.plan(c, c.cost) end
    if c.mode ~= 's' and not admits(c) then granted = 0 end
  end
  answer = { granted, now }
  for _, c in ipairs(cells) do
    local units, life = 0, 0
    if granted == 1 and op == 'acquire' then units, life = charge(c) end
    local remaining, reset = c.own.standing(c)
    for _, number in ipairs({ c.wait, units, remaining, reset, life }) do answer[#answer + 1] = number end
  end
end

for _, c in ipairs(cells) do
  if c.changed then
    local stored = store(c)
    if stored.err then return stored end
  end
end
return answer
