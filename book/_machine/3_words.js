/* The collapse machine, data: the 240 most frequent English words, from the list "small_en" of
   wordfreq 3.1.1 (Robyn Speer 2022, doi 10.5281/zenodo.7199437), single letters but "a" and "i" left
   out. Each has its frequency f as -100 log10 f, rounded as there. Licence of this file: CC BY-SA 4.0,
   as the data of wordfreq, which names its own sources (OPUS OpenSubtitles, Google Books Ngrams,
   Wikipedia, the SUBTLEX lists of Marc Brysbaert and others, freely available, and more). */
(function (machine) {
  "use strict";
  machine.english = `
    the:127 to:157 and:159 of:160 a:164 in:173 i:191 is:193 for:199 that:199 you:202 it:205 on:209
    with:215 this:218 was:218 be:221 as:223 are:226 have:229 at:230 he:231 not:231 by:234 but:237
    from:237 my:243 or:246 we:246 an:247 your:247 all:248 so:248 his:249 they:250 me:252 if:253
    one:253 can:254 will:255 just:257 like:259 about:260 up:261 out:262 what:262 has:263 when:263
    more:264 do:265 no:265 were:266 who:266 had:267 it's:267 their:267 there:269 her:270 which:270
    time:271 get:272 been:273 would:273 she:274 new:275 people:275 how:276 don't:280 some:280
    also:281 them:281 now:282 other:284 i'm:285 its:286 our:286 than:287 good:288 only:288
    after:289 first:289 him:289 into:289 know:290 see:290 two:290 make:292 over:292 think:292
    any:293 then:293 could:294 back:296 these:296 us:296 want:296 because:297 go:297 well:297
    said:299 way:299 most:300 much:300 very:300 where:300 even:301 should:301 may:302 here:303
    need:303 really:303 did:304 right:304 work:304 year:304 years:304 being:305 day:305 too:305
    going:306 before:307 off:307 why:307 made:308 still:308 take:308 got:309 many:309 never:309
    those:310 life:311 say:311 world:311 down:312 great:312 through:313 you're:313 last:314
    that's:314 while:314 best:316 such:316 love:318 man:318 home:319 long:319 look:319
    something:319 use:319 can't:320 same:320 used:320 both:321 every:321 am:322 come:322 part:322
    state:322 three:322 around:323 between:323 always:324 better:324 find:324 help:325 high:325
    little:325 old:325 since:325 another:326 does:326 own:326 things:326 under:327 during:328
    game:328 i've:328 thing:328 give:329 house:329 place:329 school:329 again:330 next:330
    each:331 mr:331 without:331 against:332 didn't:332 end:332 found:332 must:332 show:332 big:333
    feel:333 sure:333 team:333 ever:334 family:334 keep:334 might:334 please:334 put:334 money:336
    free:337 second:337 someone:337 away:338 left:338 number:338 city:339 days:339 lot:339
    name:339 night:339 play:339 until:339 company:340 doing:340 few:340 he's:340 let:340 real:340
    called:341 different:341 having:341 set:341 thought:341 done:342 however:342 getting:343
    god:343 government:343 group:343 looking:343 public:343 top:343 women:343 business:344
    care:344`
    .trim()
    .split(/\s+/)
    .map((entry) => entry.split(":"))
    .map(([name, level]) => ({ name, frequency: 10 ** (-level / 100) }));
})((globalThis.collapseMachine ??= {}));
