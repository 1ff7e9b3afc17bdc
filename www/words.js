// Every word of the page, in English and Chinese. What the server says itself (reasons, problems) is English;
// the commonest of it stands at the end, the rest is shown as it comes.

export const WORDS = {
  // the frame
  releases: ['Releases', '版本'], devices: ['Devices', '设备'], live: ['Live', '实时'], explain: ['Explain', '诊断'], drop: ['Upload', '上传固件'],
  views: ['Views', '视图'], skip: ['Skip to the content', '跳到正文'], theme: ['Theme', '主题'], auto: ['as the system', '跟随系统'], light: ['light', '浅色'], dark: ['dark', '深色'],
  streaming: ['Connected, live', '已连接，实时'], polling: ['Connected, refreshed every 5 seconds', '已连接，每 5 秒刷新'], offline: ['The server cannot be reached. Trying again.', '无法连接服务器，正在重试。'],
  status: ['The server answered with status {0}.', '服务器返回状态 {0}。'], cancel: ['Cancel', '取消'], go: ['Continue', '继续'], set: ['Set', '设置'], more: ['Show more', '显示更多'],
  now: ['now', '现在'], unknown: ['not known yet', '尚不清楚'], optional: ['optional', '可不填'], any: ['any', '全部'],
  token: ['Token needed', '需要令牌'], tokenField: ['Token', '令牌'], login: ['Sign in', '登录'],
  loginWhy: ['This page needs a token. The server prints a link with it at its first start. It is in the file operator-token of the state folder; the token in read-token shows everything and changes nothing.', '查看本页面需要令牌。服务器首次启动时会打印带令牌的链接；令牌在状态目录的 operator-token 文件里。read-token 文件里的令牌只能查看，不能修改。'],
  tokenWhy: ['Changes need the operator token. The server prints it at its first start; it is in the file operator-token of the state folder.', '修改操作需要管理令牌。服务器首次启动时会打印它，也保存在状态目录的 operator-token 文件里。'],
  tokenWrong: ['That is not the right token. It is in the file operator-token of the state folder, unless the server was given another one.', '令牌不对。正确的令牌在状态目录的 operator-token 文件里，除非启动时另外指定了令牌。'],
  tokenReads: ['The token of this tab only reads. Changes need the one in the file operator-token of the state folder.', '当前令牌只能查看。修改操作需要状态目录的 operator-token 文件里的令牌。'],

  // states
  offered: ['offered', '已下发'], downloading: ['downloading', '下载中'], delivered: ['delivered', '已送达'], sent: ['sent to a proxy', '已发给代理'], waiting: ['waiting to reboot', '等待重启'], confirmed: ['confirmed', '已确认'], reverted: ['reverted', '已回退'], silent: ['silent', '失联'],
  standing: ['Standing', '状态'], nobodyYet: ['No device has been offered it yet.', '还没有向任何设备下发过。'], updatedOf: ['{0} of {1} devices updated', '{1} 台设备中 {0} 台已升级'], network: ['Network', '网段'],
  is_live: ['Live', '发布中'], is_rolling_out: ['Rolling out {0} %', '灰度 {0}%'], is_paused: ['Paused', '已暂停'], is_fused: ['Fuse tripped', '已熔断'],
  is_held_back: ['Held back', '暂不发布'], is_scheduled: ['Scheduled', '定时发布'], is_windowed: ['In a time window', '限时段'],

  // releases
  filter: ['Filter by project or version', '按项目或版本筛选'], packages: ['Files: {0}', '文件：{0}'], baseCore: ['only from core {0}', '仅限底层 {0}'], older: ['Older releases: {0}', '更早的版本：{0} 个'],
  tDevices: ['Devices', '设备'], tRunning: ['Downloads now', '正在下载'], tReleases: ['Releases', '版本'], tQuarantined: ['Quarantined', '已隔离'],
  waiting: ['Being read: {0}', '正在读取：{0} 个文件'], quarantined: ['Not served: {0}', '不下发的文件：{0} 个'], warnings: ['Served, but looks like a mistake: {0}', '已下发但可能有误：{0} 个'], ignored: ['Ignored: {0}', '已忽略：{0} 个'],
  readonly: ['The server may not write to the firmware folder: releases are changed there, not here.', '服务器无权写入固件目录：请直接在目录里修改，不能在此操作。'],
  above: ['{0} devices of {1} run {2}, above every release that is left: they are offered nothing until there is a higher one.', '{1} 有 {0} 台设备运行 {2}，高于目录里剩下的所有版本：有更高的版本之前，不会向它们下发任何升级。'],
  rest: ['{0} more', '还有 {0} 个'], notListed: ['{0} of them are not listed.', '其中 {0} 个没有列出。'], fresh: ['New here: {0}', '新版本：{0}'],
  pause: ['Pause', '暂停'], resume: ['Resume', '恢复'], percent: ['Percent', '灰度比例'], setPercent: ['Percent…', '灰度…'],
  pauseTitle: ['Pause {0}?', '暂停 {0}？'], pauseMeans: ['No module is offered it until you resume it. Running downloads continue to their end, and nothing is taken back.', '恢复之前，不再向任何模块下发。正在进行的下载会继续完成；已升级的模块不受影响。'],
  pauseReason: ['Reason, shown on the page (optional)', '原因，会显示在页面上（可不填）'], paused: ['{0} is paused.', '{0} 已暂停。'],
  resumeTitle: ['Resume {0}?', '恢复 {0}？'], resumeMeans: ['From the next check on, it is offered to every module that its rules allow.', '从下一次请求起，符合条件的模块都会收到升级。'],
  resumeFused: ['It paused itself because modules came back with their old version. Resume it only if you know why. It is then offered again to every module that its rules allow.', '因为有模块升级后又报告旧版本，它已自动暂停。查明原因后再恢复；恢复后，符合条件的模块会再次收到升级。'],
  resumed: ['{0} is offered again.', '{0} 已恢复下发。'],
  percentTitle: ['How many get {0}?', '{0} 下发给多少设备？'], percentLabel: ['Share of the devices', '设备比例'],
  percentMeans: ['It is offered to about {0} in 100 of the devices that its rules allow, and not yet to the others.', '在符合条件的设备中，每 100 台约有 {0} 台会收到升级；其余的暂不下发。'],
  percentAll: ['It is offered to every device that its rules allow.', '所有符合条件的设备都会收到升级。'], percentNone: ['It is offered only to devices that “allow” names singly.', '只有在 allow 中逐个列出的设备会收到升级。'],
  percentStay: ['The devices of 10 % are also among those of 20 %. Lowering the value takes nothing back from modules that have it.', '10% 里的设备一定也在 20% 里。调低比例不会影响已经升级的模块。'], percentDone: ['{0}: {1} % of the devices.', '{0}：{1}% 的设备。'],
  emptyTitle: ['No release yet', '还没有任何版本'], emptyText: ['Three steps to the first update over the air.', '三步完成第一次远程升级。'],
  first1: ['Add a package', '放入升级包'], first1Text: ['Copy it into a folder that is named by project and version, or drop it here. The .bin file that Luatools makes needs no other name; the .soc file cannot be used.', '拷贝到以项目和版本命名的目录，或拖到这里。Luatools 生成的 .bin（不是 .soc）原样放入即可。'],
  dropHere: ['Upload a file', '上传固件'], first2: ['Point the module here', '让模块指向本服务器'], first2Text: ['The server must be reachable from the mobile network.', '服务器必须能从移动网络访问到。'],
  first3: ['Watch the update', '观察升级过程'], first3Text: ['The next check of the module appears here at once.', '模块的下一次请求会立即显示在这里。'],

  // rules
  rules: ['Rules', '规则'], save: ['Save', '保存'], undo: ['Undo the changes', '撤销修改'], saved: ['The rules of {0} are saved.', '{0} 的规则已保存。'], rawRules: ['release.json as a text', '以文本编辑 release.json'], line: ['Line {0}', '第 {0} 行'],
  rulesMeans: ['An empty field sets no limit. Keys that have no field here stay as they are.', '留空表示不限。这里没有列出的键保持不变。'], noRelease: ['There is no release {0}.', '没有版本 {0}。'],
  changedThere: ['The file was changed meanwhile, by somebody else or by the fuse. Undo your changes to see it as it is now.', '文件在此期间被他人或熔断修改了。请撤销修改，查看它现在的内容。'], isPausedHere: ['It is paused: no device is offered it until it is resumed.', '它已暂停：恢复之前，不向任何设备下发。'],
  counting: ['Counting…', '正在统计…'], notCounted: ['Not counted, because the rules are not valid.', '规则无效，未统计。'], mayHave: ['{0} of {1} devices may have {3}; now {2}.', '{1} 台设备中有 {0} 台可以得到 {3}；现在是 {2} 台。'],
  changedFor: ['Devices that would get another result than now: {0}.', '结果会与现在不同的设备：{0} 台。'], alsoChanges: ['{0}: {1} devices now, {2} afterwards.', '{0}：现在 {1} 台，之后 {2} 台。'], countedAt: ['Counted for {0}, when not_before and window allow it.', '按 {0} 统计，届时 not_before 和 window 都允许。'], whyNot: ['Why the others do not get it', '其余设备得不到的原因'],
  r_percent: ['Share of the devices, in percent', '设备比例（百分数）'], h_percent: ['0 to 100. Devices that allow names singly are always included.', '0 到 100。在 allow 中逐个列出的设备总是包含在内。'],
  r_from: ['Only from these versions', '只从这些版本升级'], h_from: ['A version, a range, or exact texts with commas between them.', '一个版本号、一个范围，或用逗号分隔的原样文本。'],
  r_allow: ['Only these devices', '只给这些设备'], h_allow: ['Ids and ranges of IMEIs, one per line.', '设备标识或 IMEI 号段，每行一个。'], r_deny: ['Never these devices', '不给这些设备'], h_deny: ['The same form. The list of the project counts as well.', '写法相同。项目的名单同时有效。'],
  r_window: ['Hours of the day', '每天的时段'], h_window: ['With the offset from UTC; may cross midnight.', '要写与 UTC 的时差；可以跨过午夜。'], r_not_before: ['Not before', '不早于'], h_not_before: ['In the time zone of this browser.', '按本浏览器的时区。'],
  r_stages: ['Stages: percent and time', '阶段：百分数和时间'], h_stages: ['Instead of the share: each next one begins by itself after its time, once devices have confirmed the release.', '用来代替设备比例：时间到了，并且已有设备确认这个版本，就自动进入下一个。'],
  r_reboot_within: ['Time until the reboot', '重启期限'], h_reboot_within: ['How long a module may run its old version after the download: 90m, 12h, 2d.', '下载完成后，模块最多可以继续运行旧版本多久：90m、12h、2d。'],
  r_fuse: ['Fuse: devices, percent', '熔断：设备数、百分数'], h_fuse: ['Pauses itself when at least this number, and this share, come back with the old version. Default: 3, 20.', '报告旧版本的设备达到这个数量和比例时自动暂停。默认 3, 20。'],
  rollBack: ['Roll back', '回滚'], rollBackTitle: ['Roll back {0}?', '回滚 {0}？'], rollBackTo: ['Replace it with', '改用'], rollBackOnly: ['Only these devices (ids and ranges of IMEIs; empty: all)', '只回滚这些设备（设备标识或 IMEI 号段；留空表示全部）'],
  rollBackMeans: ['The release is paused for all devices, and the other release may replace it.', '这个版本会对所有设备暂停，并允许用另一个版本替换它。'],
  rollBackNote: ['A module takes the other release at its next check, as a download like any other. LuatOS modules accept an older script; a core needs a delta that was made for that direction. To undo it, resume the release and remove allow_downgrade from the other one.', '模块会在下一次请求时下载另一个版本，与普通升级相同。LuatOS 模块接受较旧的脚本；底层固件则需要为这个方向制作的差分包。要撤销，请恢复这个版本，并从另一个版本中删除 allow_downgrade。'],
  writes: ['Keys that are written into release.json (null removes one):', '写入 release.json 的键（null 表示删除）：'], backTo: ['back to {0}', '回滚到 {0}'], rolledBack: ['{0} is paused, and {1} may replace it.', '{0} 已暂停，可以用 {1} 替换。'], rollBackHalf: ['The roll back is incomplete:', '回滚没有全部完成：'],
  runIt: ['{0} devices run {1} now. At their next check:', '现在有 {0} 台设备运行 {1}。下一次请求时：'], getIt: ['{0} are offered {1}', '{0} 台会收到 {1}'], keepIt: ['{0} keep it:', '{0} 台保持不变：'],
  retire: ['Retire', '停用'], retireTitle: ['Retire {0}?', '停用 {0}？'], retireMeans: ['Its folder is moved aside, and nothing is deleted. No device is offered it. A device that is downloading it may have to begin again with another release.', '它的目录会被移到一边，不删除任何内容，也不再向任何设备下发。正在下载的设备可能需要从另一个版本重新开始。'],
  retireUndo: ['To undo it, move the folder back:', '要撤销，请把目录移回去：'], retired: ['{0} is retired. It is now in {1}.', '{0} 已停用，现在位于 {1}。'],

  // over time
  overTime: ['Over time', '变化趋势'], chartOf: ['Devices of {0} by state', '{0} 各状态的设备数'], runningVersions: ['Versions that devices run', '设备正在运行的版本号'], versionsOf: ['Devices of {0} by version', '{0} 各版本号的设备数'], otherVersions: ['{0} others', '其他 {0} 个'],
  twoWeeks: ['14 days', '14 天'], oneYear: ['1 year', '1 年'], asTable: ['Table', '表格'], time: ['Time', '时间'], chartFrom: ['From {0} until now: ', '从 {0} 到现在：'], noHistory: ['Nothing was counted yet. The server counts every hour.', '还没有数据。服务器每小时统计一次。'],

  // devices
  searchFor: ['Beginning or end of the id, or name', '标识的开头或结尾，或名称'], toRelease: ['To release', '升级到的版本'], sortBy: ['Sort by', '排序'], id: ['Id', '标识'], project: ['Project', '项目'], version: ['Version', '版本号'], stateIs: ['State', '状态'], onlyHeld: ['Held by the loop guard', '被循环保护暂缓'], held: ['held', '已暂缓'],
  matchOf: ['{0} of {1} devices', '{1} 台设备中的 {0} 台'], shownOf: ['; {0} shown', '；显示 {0} 台'], noneFits: ['No device fits.', '没有符合条件的设备。'], noDevices: ['No device has asked yet.', '还没有设备请求过升级。'],
  lastSeen: ['Last seen', '最近请求'], deviceName: ['Name', '名称'], firstSeen: ['First seen', '首次出现'], interval: ['Asks every', '请求间隔'], listed: ['in the list of known devices', '在已知设备名单中'], probation: ['seen only once so far', '目前只出现过一次'],
  updateProgress: ['Update progress', '升级进度'], noJourney: ['Nothing has been offered to it yet.', '还没有向它下发过升级。'], ofBytes: ['{0} of {1}', '{0} / {1}'], until: ['until', '直到'],
  heldTitle: ['Held by the loop guard', '被循环保护暂缓'], heldMeans: ['It downloaded this file several times and came back with its old version each time. To save mobile data, it is not offered this file for now.', '它多次下载这个文件，却仍报告旧版本。为避免耗尽流量，暂不再向它下发这个文件。'], heldFacts: ['{0} reverts, {1} sent', '回退 {0} 次，已发送 {1}'],
  lift: ['Lift the hold', '解除暂缓'], liftTitle: ['Lift the hold on {0}?', '解除对 {0} 的暂缓？'], liftMeans: ['At its next check it is offered the file again. If the fault is in the firmware, this download is wasted.', '下一次请求时会再次向它下发。如果问题出在固件本身，它会白白多下载一次。'], lifted: ['The hold on {0} is lifted.', '已解除对 {0} 的暂缓。'], whyThis: ['Why does it get this result?', '它为什么得到这样的结果？'],

  // live
  noStream: ['Live events are not available at the moment. The chart is still refreshed, but single events are missing.', '暂时无法获取实时事件：图表会继续刷新，但看不到单个事件。'],
  lastHour: ['The last hour', '最近一小时'], checksMinute: ['Checks per minute', '每分钟请求数'], bytesMinute: ['Firmware sent per minute', '每分钟发送的固件'], hourAgo: ['60 min ago', '60 分钟前'],
  ratesWords: ['{0} checks in the last hour, {1} of them offers; {2} in the busiest minute.', '最近一小时请求 {0} 次，其中下发 {1} 次；最忙的一分钟 {2} 次。'], ratesBytes: ['{0} sent in the last hour, at most {1} in a minute.', '最近一小时发送 {0}，一分钟最多 {1}。'], ratesAt: ['{0} min ago: {1} checks, {2} offers, {3}', '{0} 分钟前：请求 {1} 次，下发 {2} 次，{3}'],
  downloadsNow: ['Downloads now', '正在下载'], notYetHeard: ['{0} running. Each appears here when it makes progress.', '正在进行 {0} 个；有进展时会显示在这里。'], noDownloads: ['None is running.', '当前没有下载。'], downloadOf: ['Download of {0}', '{0} 的下载进度'], perSecond: ['{0}/s', '{0}/秒'],
  feed: ['Checks', '升级请求'], noEvents: ['Checks appear here as they come.', '模块请求升级时会显示在这里。'], onlyRefusals: ['Only refusals', '只看拒绝'], holdFeed: ['Freeze', '冻结'], why: ['why?', '原因？'],
  verdict_offer: ['offer', '下发'], verdict_resume: ['resume', '续传'], verdict_refuse: ['no', '拒绝'],
  result_complete: ['complete', '完成'], result_cut: ['cut', '中断'], result_stalled: ['stalled', '停滞'], result_replaced: ['replaced by a new one', '已由新下载取代'], result_gone: ['the file is gone', '文件已不在'], result_full: ['server full', '服务器已满'], result_stopped: ['server stopped', '服务器停止'], result_other: ['ended', '已结束'],

  // explain
  explainLead: ['What would a module get, and why? Nothing is sent to any module.', '某个模块会得到什么结果，为什么？这里不会向模块发送任何内容。'], byRequest: ['From a log', '粘贴日志'], requestLabel: ['A request URL, or a UDP line', '请求 URL，或一行 UDP 报文'], byFields: ['Enter the values', '填写信息'],
  firmwareName: ['Firmware name', '固件名（firmware_name）'], coreVersion: ['Core version', '底层版本'], projectKey: ['Project key', '项目密钥'], askedOver: ['Asked over', '请求方式'], explainIt: ['Explain', '诊断'],
  getsRelease: ['It gets {0}', '它会得到 {0}'], getsNothing: ['It gets nothing now', '现在没有可给它的升级'], looked: ['Evaluated rules', '判断过程'], theCheck: ['The request', '请求'],

  // upload
  dropZone: ['Drop firmware here, or choose files', '把固件拖到这里，或点此选择文件'], dropKinds: ['.bin .ota .fota .sota .img, up to 256 MB; of a .soc a script package is made', '.bin .ota .fota .sota .img，最大 256 MB；.soc 会先生成脚本包'],
  dropWhere: ['Leave both empty for Luatools output: its names say project and version. A file can also be dropped onto a release.', 'Luatools 生成的文件请留空：文件名里已有项目和版本。也可以把文件拖到某个版本上。'],
  byName: ['by its name', '按文件名'], bothOrNone: ['Give both project and version, or neither.', '项目和版本要么都填，要么都不填。'], emptyFile: ['The file is empty.', '文件是空的。'], tooLarge: ['The file is over {0}.', '文件超过 {0}。'],
  rulesFirst: ['Which devices get it from the start', '一开始下发给哪些设备'], rulesFirstText: ['These rules are in the folder before the file is. Left empty, every device that it fits is offered it.', '这些规则先于文件写入目录。都不填，则下发给所有适用的设备。'],
  allowLabel: ['Only these IMEIs', '只给这些 IMEI'], pausedFirst: ['Paused until I resume it', '先暂停，由我恢复'],
  byScript: ['from main.lua', '取自 main.lua'], making: ['The server makes a script package of it…', '服务器正在用它生成脚本包…'], core: ['Core', '底层固件'], coreNotIn: ['{0}, not included', '{0}，不在升级包内'],
  madeOf: ['{0} was made of this factory file. It contains only the scripts. The core is not included: modules on another core need a core delta from Luatools. No real module has installed this package yet, so it is uploaded paused.', '已用这个量产文件生成 {0}。升级包只含脚本，不含底层固件：使用其他底层固件的模块需要 Luatools 生成的底层差分包。还没有真实模块装过这个升级包，所以上传后是暂停状态。'],
  download: ['Download', '下载'], uploadPaused: ['Upload, paused', '上传并暂停'], notMade: ['No package can be made:', '无法生成升级包：'], isTherePaused: ['It is in the folder, paused, with percent 0. Allow one module in its release.json, resume it, and watch that module before you raise the percentage.', '升级包已在目录中，处于暂停状态，灰度比例为 0。请先在它的 release.json 里只允许一台模块，再恢复发布；确认这台模块正常后，再调大灰度比例。'],
  looking: ['Looking at it…', '正在识别…'], kind: ['Kind', '类型'], platform: ['Platform', '平台'], anyPlatform: ['any', '不限'], fromCore: ['Base core', '差分基础'], newestHere: ['Newest here', '现有最新'],
  bill: ['{0} of {1} devices will take it: {0} × {2} = {3} of mobile data', '{1} 台设备中有 {0} 台会升级：{0} × {2} = {3} 流量'], billNobody: ['None of the {0} devices will take it.', '{0} 台设备都不会升级。'], billNone: ['No device of this project has asked yet.', '该项目还没有设备请求过升级。'], sure: ['I have read this and want to continue', '我已了解，仍要继续'],
  upload: ['Upload', '上传固件'], uploadOf: ['Upload of {0}', '{0} 的上传进度'], checking: ['Being checked…', '正在校验…'], uploaded: ['{0} is uploaded.', '{0} 已上传。'], isThere: ['It is in the folder. It is offered as soon as it has been read.', '文件已在目录中，读取完成后即开始下发。'],
  refusedFile: ['Would not be served:', '不能下发：'], failedUpload: ['Not uploaded:', '上传失败：'], tryAgain: ['Try again', '重试'], remove: ['Remove', '移除'], hide: ['Done', '完成'],
};

/** What the server says: how it begins (matched whole), better English if need be, Chinese. */
export const SAID = [
  [/every module of the project/, null, '该项目的所有模块'], [/modules on (.+)/, null, '$1 模块'], [/([\d.]+) percent/, '$1 % of the devices', '$1% 的设备'],
  [/allow (\d+)( \(.+\))?/, 'only those in allow ($1)$2', '仅名单中的 $1 项$2'], [/deny (\d+)( \(.+\))?/, 'none of those in deny ($1)$2', '排除名单中的 $1 项$2'],
  [/stages (.+) percent/, 'in stages of $1 %', '分阶段：$1%'], [/([\d.]+) percent of the devices/, '$1 % of the devices', '$1% 的设备'], [/next stage: ([\d.]+) percent/, 'next stage: $1 %', '下一阶段 $1%'], [/next stage: ([\d.]+) percent, not before (.+)/, 'next stage: $1 %, not before $2', '下一阶段 $1%，不早于 $2'], [/this is the last stage/, null, '已是最后阶段'],
  [/it is in the stage of ([\d.]+) percent of the devices/, 'it is in the stage of $1 % of the devices', '处于 $1% 设备的阶段'], [/it waits: the fuse has paused the release/, null, '暂不进入：已熔断'], [/it waits: the release is (?:paused|held back)/, null, '暂不进入：版本已暂停或暂不发布'], [/it waits: no device has been confirmed with it yet/, null, '暂不进入：还没有设备确认升级'], [/it waits: (\d+) of the (\d+) devices that this stage needs are confirmed/, null, '暂不进入：本阶段需要 $2 台设备确认升级，目前 $1 台'], [/it waits: (\d+) of the (\d+) devices that were given it are confirmed, and half are needed/, null, '暂不进入：得到它的 $2 台设备中确认升级 $1 台，需要至少一半'],
  [/it is in the group (@.+)/, null, '属于分组 $1'], [/(allow|deny) names `(@.+?)`, and there is no file (@\S+) at the top of the firmware folder(?:: .*)?/, null, '$1 用到分组 $2，但固件目录顶层没有 $3'], [/(allow|deny) names `(@.+?)`, and (@\S+?) is not read yet/, null, '$1 用到分组 $2，$3 还没有读完'], [/(allow|deny) names `(@.+?)`, and (@\S+?) cannot be used(?:: .*)?/, null, '$1 用到分组 $2，但 $3 不能用'], [/line (\d+): .+ \(no device matches `allow` through it.*\)/, null, '分组的第 $1 行不是设备标识或号段：用 allow 时它不匹配任何设备，deny 用到它的版本不下发'],
  [/it names no device \(no device matches `allow` through it.*\)/, null, '分组里没有设备：用 allow 时它不匹配任何设备，deny 用到它的版本不下发'],
  [/from (.+)/, 'from version $1', '从版本 $1 升级'], [/base_core (\d+)/, 'from core $1', '从底层 $1 升级'], [/not before (.+)/, null, '不早于 $1'], [/(?:window|only) (\d.+)/, 'daily $1', '每天 $1'],
  [/only known devices are served|not a known device/, null, '不在已知设备名单中'], [/no such project/, null, '没有这个项目'], [/there is no project (.+) with a release/, null, '项目 $1 还没有版本'], [/the check names no project/, null, '请求里没有项目名'],
  [/project (.+), platform (.+), core (.+), version (.+)/, null, '项目 $1，平台 $2，底层 $3，版本 $4'], [/all (?:its files|files of the project) are quarantined/, null, '该项目的文件都被隔离了'],
  [/offered: (.+)/, null, '下发：$1'], [/(.+) is offered/, null, '下发 $1'], [/nothing newer|not newer/, null, '没有更新的版本'], [/(.+) is newer than (.+)/, null, '$1 比 $2 新'], [/(.+) is the same as (.+)/, null, '$1 与 $2 相同'], [/(.+) is not newer than (.+)/, null, '$1 不比 $2 新'],
  [/the project_key is another/, null, '项目密钥不符'], [/its firmware_name is not in the rule/, null, '固件名不在规则里'], [/it is in deny/, null, '在 deny 名单中'], [/it is not in allow/, null, '不在 allow 名单中'], [/its version is not in from/, null, '当前版本不在 from 范围内'],
  [/the module said no version/, null, '模块没有报告版本'], [/its version is not a number between dots.*/, null, '版本号不是以点分隔的数字（from、any_version）'], [/no package for its platform/, null, '没有适合该平台的升级包'], [/the package is for another kind of chip/, null, '升级包是给另一种芯片的'],
  [/waiting to reboot: .*/, null, '已有该版本，等待重启（reboot_within）'], [/reboot_within (\d+) min/, 'may wait $1 min before the reboot', '重启最多可推迟 $1 分钟'],
  [/(?:no device|only (\d+) devices?) of this project (?:is|are) established yet: .*/, null, '该项目还没有足够的稳定设备：凡完整下载过的设备都计入熔断'],
  [/the core delta was made from another core/, null, '底层差分包的差分基础不符'], [/a script package fits only the same core.*/, null, '脚本包只适用于相同的底层（any_core）'], [/the file is too large for UDP; it is offered over HTTP/, null, '文件太大，UDP 发不了；可通过 HTTP 获取'],
  [/paused/, null, '已暂停'], [/built here: verify on one module first/, null, '由本服务器生成：请先在一台模块上验证'], [/this build of luat-ota makes no packages: .*/, null, '当前版本的 luat-ota 不能生成升级包：请在另一台机器上用完整版运行 luat-ota pack，再上传它生成的 .bin'], [/not_before is still to come/, null, '还没到 not_before 的时间'], [/held: it got this again and again and came back as before/, null, '已暂缓：多次下载后仍报告旧版本'], [/(\d+) of (\d+) devices will not take it: (.+)/, null, '$2 台设备中有 $1 台不会升级：$3'], [/other reasons/, null, '其他原因'], [/outside its window/, null, '不在下发时段内'], [/not among the percent that may have it yet/, null, '尚不在灰度比例内'], [/older (?:releases|ones) are not looked at/, null, '不再看更早的版本'],
  [/this is a (?:\.soc|\.binpkg|factory).*(?:Luatools|cable).*/, null, '这是用于 USB 烧录的量产文件：请在 Luatools 里选“生成差分/升级文件”，放入生成的 .bin'], [/this is (?:a web page|JSON|text).*/, null, '这不是固件，而是网页或文本：下载可能失败了，请重新下载'], [/version (.+) is there already and is higher.*/, null, '已有更高的版本 $1：装有它的模块不会接受这一个'],
  [/at the top of the firmware folder a file must.*/, null, '文件名里没有项目和版本：请保留 Luatools 生成的文件名，或指明项目和版本，如 PROJECT/2.0.1/update.bin'], [/the folder `(.+?)` names no version.*/, null, '目录 $1 没有版本：请放进版本目录，如 $1/2.0.1/update.bin'],
  [/the file is empty: copy it again/, null, '文件是空的：请重新拷贝'], [/It is no firmware and is left alone\./, null, '不是固件，不处理'], [/It may not be read.*/, null, '没有读取权限：请让运行服务器的用户可读（chmod a+r）'], [/This is a symbolic link.*/, null, '这是符号链接，不会跟随：请把文件本身放到这里'],
  [/It does not match the (\.\w+) beside it.*/, null, '与旁边的 $1 不符：文件没有拷完，或其中一个属于别的文件'], [/(.+) claims the same release and platform with other bytes.*/, null, '$1 声称是同一版本和平台，内容却不同：请只留一个'],
  [/there is no key `(.+?)`: the nearest is `(.+?)`/, null, '没有 $1 这个键，最接近的是 $2'], [/there is no key `(.+?)`: the nearest is `(.+?)` \(.+\)/, null, '没有 $1 这个键，最接近的是 $2（改好之前不生效）'], [/the key `(.+?)` is there twice: keep one of them(?: \(.+\))?/, null, '$1 这个键出现了两次：请只留一个'], [/this is no JSON: (.+?)(?: \(.+\))?/, null, '不是正确的 JSON：$1'],
  [/(EC7xx|EC618|W800|LuaDB) script/, null, '$1 脚本'], [/(EC7xx|EC618) core delta/, null, '$1 底层差分'], [/(Air105|W800|ESP32) image/, null, '$1 整包'], [/generic/, null, '通用'],
];
